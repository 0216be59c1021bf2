// The map of edges of chapter "Edges on the map": which circuit of k edges acts at a timestep, two models side by side. Plain DOM: no library, no request.
// A function expression; diffcirc.book.edgemap appends the call with the map's id. All text from data goes through textContent.
(function (uid) {
  'use strict';
  document.querySelectorAll('[data-dce="' + uid + '"]:not([data-live])').forEach(start);

  function start(root) {
    const d = JSON.parse(root.querySelector('.dce-data').textContent), T = d.timesteps.length, E = d.edges.length, MOST = 12;
    const [time, size] = root.querySelectorAll('.dce-bar input'), [clock, count] = root.querySelectorAll('.dce-bar output');
    const boxes = Array.from(root.querySelectorAll('.dce-set')), say = root.querySelector('.dce-say'), lists = root.querySelector('.dce-lists');
    const state = { t: d.at, k: d.k, node: d.first, edge: -1, picked: false, sets: d.shown.slice(), focus: boxes.map(function () { return d.first; }) };
    const panes = boxes.map(function (box) {
      return { box: box, svg: box.querySelector('svg'), edges: Array.from(box.querySelectorAll('.e')), nodes: Array.from(box.querySelectorAll('.n')), pick: box.querySelector('select'), faith: box.querySelector('.dce-faith') };
    });

    function set(p) { return d.sets[state.sets[p]]; }
    function inside(p, e) { return set(p).rank[state.t][e] < state.k; }
    function share(p, t, e) { return set(p).score[t][e] / set(p).total[t]; }
    function percent(v) { return (100 * v).toFixed(v < .0995 ? 1 : 0) + '\u00a0%'; }
    // two digits, of small numbers in powers of ten: 6.6·10⁻⁵
    function raised(k) { return String(k).replace(/[-\d]/g, function (c) { return c === '-' ? '\u207b' : '\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079'[c]; }); }
    function small(v) {
      if (v === 0) return '0';
      if (Math.abs(v) >= 1e-3) return v.toPrecision(2).replace('-', '\u2212');
      const parts = v.toExponential(1).split('e');
      return parts[0].replace('-', '\u2212') + '\u00b710' + raised(+parts[1]);
    }
    function name(e) { const x = d.edges[e]; return d.nodes[x[0]] + ' \u2192 ' + d.nodes[x[1]] + (x[2] ? ', ' + { q: 'query', k: 'key', v: 'value' }[x[2]] : ''); }
    function add(parent, tag, text) { const e = document.createElement(tag); if (text !== undefined) e.textContent = text; parent.appendChild(e); return e; }
    function sizeOf(v) { return Math.max(1, Math.min(E, Math.round(Math.pow(E, v / 100)))); }

    // ---- what can be done: a slider for the time, one for the size, a model for each map, a node or an edge chosen ----
    time.max = T - 1; time.value = state.t; size.value = Math.round(100 * Math.log(state.k) / Math.log(Math.max(2, E)));
    time.addEventListener('input', function () { state.t = +time.value; draw(); });
    size.addEventListener('input', function () { state.k = sizeOf(+size.value); draw(); });
    panes.forEach(function (pane, p) {
      d.sets.forEach(function (s, i) { const o = add(pane.pick, 'option', s.label); o.value = i; });
      pane.pick.value = state.sets[p];
      pane.pick.addEventListener('change', function () { state.sets[p] = +pane.pick.value; draw(); });
      pane.svg.setAttribute('role', 'group'); pane.svg.classList.add('pane'); pane.box.setAttribute('data-live', '');
      pane.svg.addEventListener('click', function (e) { if (!e.target.closest('.n')) nearest(p, e); });
      pane.nodes.forEach(function (g, i) {
        g.setAttribute('role', 'button');
        g.addEventListener('click', function () { choose(i, -1); });
        g.addEventListener('focus', function () { state.focus[p] = i; if (state.node !== i || state.edge >= 0) choose(i, -1); else rove(); });
        g.addEventListener('keydown', function (e) {
          if (e.key === 'Enter' || e.key === ' ') { e.preventDefault(); choose(i, -1); }
          if (e.key === 'ArrowLeft' || e.key === 'ArrowRight') { e.preventDefault(); state.t = Math.max(0, Math.min(T - 1, state.t + (e.key === 'ArrowRight' ? 1 : -1))); time.value = state.t; draw(); }
          if (e.key === 'Escape') release();
          const to = { ArrowUp: i - 1, ArrowDown: i + 1, Home: 0, End: pane.nodes.length - 1 }[e.key];
          if (to !== undefined) { e.preventDefault(); if (pane.nodes[to]) pane.nodes[to].focus(); }
        });
      });
    });
    function rove() { panes.forEach(function (pane, p) { pane.nodes.forEach(function (g, i) { g.setAttribute('tabindex', i === state.focus[p] ? 0 : -1); }); }); }
    function choose(node, edge) { state.node = node; state.edge = edge; state.picked = true; draw(); }
    function release() { if (state.edge >= 0) state.node = d.edges[state.edge][1]; state.edge = -1; state.picked = false; draw(); }
    // the drawn edge that comes nearest to a click, at most some pixels away
    function nearest(p, e) {
      const m = panes[p].svg.getScreenCTM(); let best = -1, far = 10;
      if (!m) return;
      panes[p].edges.forEach(function (path, i) {
        if (!inside(p, i)) return;
        const n = path.getTotalLength();
        for (let s = 1; s < 20; s++) {
          const q = path.getPointAtLength(n * s / 20).matrixTransform(m), r = Math.hypot(q.x - e.clientX, q.y - e.clientY);
          if (r < far) { far = r; best = i; }
        }
      });
      if (best >= 0) choose(-1, best); else release();
    }
    function chosen(e) { return state.edge >= 0 ? e === state.edge : d.edges[e][0] === state.node || d.edges[e][1] === state.node; }

    // ---- drawing -----------------------------------------------------------------------------------------------------
    function draw() {
      const t = state.t;
      clock.textContent = 't = ' + d.timesteps[t]; time.setAttribute('aria-valuetext', 'timestep ' + d.timesteps[t]);
      count.textContent = state.k + ' of ' + E + ' edges'; size.setAttribute('aria-valuetext', count.textContent);
      panes.forEach(function (pane, p) {
        const s = set(p), touched = {};
        pane.box.style.setProperty('--c', s.color);
        pane.svg.setAttribute('aria-label', 'edges of ' + s.label);
        pane.svg.classList.toggle('dim', state.picked);
        pane.edges.forEach(function (path, e) {
          const on = inside(p, e), x = d.edges[e];
          path.classList.toggle('out', !on); path.classList.toggle('neg', s.error[t][e] < 0); path.classList.toggle('on', chosen(e));
          path.style.strokeWidth = (.8 + 5.2 * Math.sqrt(s.score[t][e] / s.most[t])).toFixed(2);
          if (on) touched[x[0]] = touched[x[1]] = true;
        });
        pane.nodes.forEach(function (g, i) {
          g.classList.toggle('idle', !touched[i]); g.classList.toggle('on', state.edge >= 0 ? d.edges[state.edge].slice(0, 2).indexOf(i) >= 0 : i === state.node);
          g.setAttribute('aria-pressed', String(i === state.node && state.edge < 0));
        });
        const f = s.faithful[t].filter(function (v) { return v[0] <= state.k; }).pop();
        pane.faith.textContent = f ? 'faithful ' + f[1].toFixed(2).replace('-', '\u2212') + ' at ' + f[0] + (f[0] === 1 ? ' edge' : ' edges') : '';
      });
      rove(); tell();
    }
    function tell() {
      const t = state.t, what = state.edge >= 0 ? name(state.edge) : d.nodes[state.node];
      say.textContent = ''; lists.textContent = '';
      add(say, 'strong', what);
      say.append(state.edge >= 0 ? ', patched alone, over the timesteps: share of what all edges do one by one, and change of the error'
        : ' at t = ' + d.timesteps[t] + ': what it reads and what reads it, the heaviest first; share of what all edges do one by one, and change of the error');
      panes.forEach(function (pane, p) {
        const col = add(lists, 'div'), b = add(col, 'b', set(p).label), ol = add(col, 'ol');
        b.style.color = set(p).color;
        if (state.edge >= 0) d.timesteps.forEach(function (at, i) { item(ol, p, i, state.edge, 't = ' + at + ', rank ' + (set(p).rank[i][state.edge] + 1), false); });
        else {
          const own = d.edges.map(function (_, e) { return e; }).filter(chosen).sort(function (a, b) { return set(p).rank[t][a] - set(p).rank[t][b]; });
          own.slice(0, MOST).forEach(function (e) { item(ol, p, t, e, name(e), true); });
          if (own.length > MOST) { const rest = add(col, 'div', 'and ' + (own.length - MOST) + ' lighter ones'); rest.className = 'dce-note'; }
        }
      });
    }
    function item(ol, p, t, e, text, go) {
      const li = add(ol, 'li'), s = set(p), change = s.error[t][e];
      li.classList.toggle('out', s.rank[t][e] >= state.k);
      if (go) { const b = add(li, 'button', text); b.type = 'button'; b.addEventListener('click', function () { choose(-1, e); }); }
      else li.append(text);
      li.append(': ' + percent(share(p, t, e)) + ', error ' + (change > 0 ? '+' : '') + small(change) + (s.rank[t][e] < state.k ? '' : ', outside'));
    }

    root.querySelectorAll('[hidden]').forEach(function (e) { e.hidden = false; });
    root.querySelectorAll('.dce-still, .dce-still-name').forEach(function (e) { e.hidden = true; });
    root.setAttribute('data-live', ''); draw();
  }
})
