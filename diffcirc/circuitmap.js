// The circuit map of chapter "The circuit map": recolours two drawings of the network by timestep. Plain DOM: no library, no request.
// A function expression; diffcirc.circuitmap appends the call with the map's id. All text from data goes through textContent.
(function (uid) {
  'use strict';
  const SVG = 'http://www.w3.org/2000/svg';
  document.querySelectorAll('[data-dcm="' + uid + '"]:not([data-live])').forEach(start);

  function start(root) {
    const d = JSON.parse(root.querySelector('.dcm-data').textContent), T = d.timesteps.length;
    const state = { t: d.timesteps.indexOf(d.at), site: d.sites[d.first], pinned: false, at: d.sets.map(function () { return d.first; }) };
    const slider = root.querySelector('.dcm-slider'), clock = root.querySelector('.dcm-clock'), say = root.querySelector('.dcm-say');
    const boxes = root.querySelectorAll('.dcm-set'), places = {};  // site -> its place in each map

    function el(tag, attrs, ns) {
      const e = ns ? document.createElementNS(SVG, tag) : document.createElement(tag);
      Object.keys(attrs || {}).forEach(function (k) { e.setAttribute(k, attrs[k]); });
      return e;
    }

    // ---- what is painted where: found once, in the drawing of the page's first timestep -----------------------------
    d.sets.forEach(function (set, k) {
      boxes[k].setAttribute('role', 'group'); boxes[k].setAttribute('aria-label', set.label);  // a part is named by its own title
      boxes[k].querySelectorAll('g[data-site]').forEach(function (g) {
        const i = d.sites.indexOf(g.dataset.site);
        if (i < 0) return;
        const was = set.text[state.t][i], title = g.querySelector('title');
        const texts = Array.from(g.querySelectorAll('text')), shown = texts.filter(function (x) { return x.textContent.endsWith(was) && x.textContent !== d.sites[i]; });
        const value = d.kinds[i] === 'head' ? null : d.kinds[i] === 'skip' ? shown[0] : shown[shown.length - 1];
        (places[d.sites[i]] = places[d.sites[i]] || [])[k] = {
          g: g, shape: g.querySelector('[style*="fill:#"]'), inks: texts.filter(function (x) { return x.getAttribute('fill')[0] === '#'; }),
          value: value, stem: value ? value.textContent.slice(0, value.textContent.length - was.length) : '',
          title: title, about: title.textContent.slice(0, title.textContent.lastIndexOf(': ') + 2) };
        g.setAttribute('data-live', ''); g.setAttribute('role', 'button'); g.setAttribute('tabindex', -1);
        g.addEventListener('pointerenter', function (e) { if (e.pointerType === 'mouse' && !state.pinned) pick(g.dataset.site); });
        g.addEventListener('focus', function () { state.at[k] = i; rove(); if (!state.pinned) pick(g.dataset.site); });
        g.addEventListener('click', function (e) { e.stopPropagation(); state.pinned = !(state.pinned && state.site === g.dataset.site); pick(g.dataset.site); });
        g.addEventListener('keydown', function (e) {
          if (e.key === 'Enter' || e.key === ' ') { e.preventDefault(); state.pinned = !(state.pinned && state.site === g.dataset.site); pick(g.dataset.site); }
          if (e.key === 'Escape') { state.pinned = false; }
          if (e.key === 'ArrowLeft' || e.key === 'ArrowRight') { e.preventDefault(); move(state.t + (e.key === 'ArrowRight' ? 1 : -1)); }
          const to = { ArrowUp: i - 1, ArrowDown: i + 1, Home: 0, End: d.sites.length - 1 }[e.key];
          if (to !== undefined) { e.preventDefault(); go(k, to, e.key === 'ArrowUp' || e.key === 'End' ? -1 : 1); }
        });
      });
    });

    // one stop for the Tab key in each map; the arrow keys go from part to part in the order of the forward pass
    function part(k, i) { const p = (places[d.sites[i]] || [])[k]; return p && p.g; }
    function rove() { d.sets.forEach(function (_, k) { d.sites.forEach(function (_, i) { const g = part(k, i); if (g) g.setAttribute('tabindex', i === state.at[k] ? 0 : -1); }); }); }
    function go(k, i, step) { while (i >= 0 && i < d.sites.length && !part(k, i)) i += step; if (part(k, i)) part(k, i).focus(); }
    function pick(site) { state.site = site; draw(); }
    function move(t) { state.t = Math.max(0, Math.min(T - 1, t)); slider.value = state.t; draw(); }

    // ---- drawing -------------------------------------------------------------------------------------------------
    function draw() {
      const t = state.t;
      clock.textContent = 't = ' + d.timesteps[t]; slider.setAttribute('aria-valuetext', 'timestep ' + d.timesteps[t]);
      d.sites.forEach(function (site, i) {
        (places[site] || []).forEach(function (p, k) {
          const set = d.sets[k], text = set.text[t][i];
          p.shape.style.fill = set.fill[t][i]; p.inks.forEach(function (x) { x.setAttribute('fill', set.ink[t][i] ? '#000000' : '#ffffff'); });
          if (p.value) p.value.textContent = p.stem + text;
          p.title.textContent = p.about + text;
          p.g.setAttribute('aria-pressed', String(site === state.site));
          p.g.classList.toggle('on', site === state.site);
        });
      });
      root.querySelectorAll('.dcm-pic').forEach(function (p) { p.style.backgroundPosition = '0 ' + (T > 1 ? 100 * t / (T - 1) : 0) + '%'; });
      read(); spark();
    }
    function read() {
      const i = d.sites.indexOf(state.site);
      say.textContent = '';
      const what = el('strong'); what.textContent = state.site; say.append(what, ' removed at t = ' + d.timesteps[state.t] + ': the error changes by');
      d.sets.forEach(function (s) {
        const b = el('b'); b.textContent = s.percent[state.t][i]; b.style.color = s.color;
        say.append(el('br'), b, ' on ' + s.label + (s.interval[state.t][i] ? ' ' + s.interval[state.t][i] : ''));
      });
    }
    function spark() {
      const i = d.sites.indexOf(state.site), box = root.querySelector('.dcm-spark'), w = 190, h = 84, l = 26, b = 14;
      const x = function (t) { return l + (w - l) * (1 - d.timesteps[t] / 1000); };
      const y = function (v) { return 4 + (h - b - 4) * (1 - Math.max(0, Math.min(1, v))); };
      box.textContent = '';
      d.ticks.forEach(function (k) {
        box.appendChild(el('line', { x1: l, x2: w, y1: y(k[0]), y2: y(k[0]) }, 1));
        const n = el('text', { x: l - 4, y: y(k[0]) + 3, 'text-anchor': 'end' }, 1); n.textContent = k[1]; box.appendChild(n);
      });
      d.sets.forEach(function (s) {
        const at = d.timesteps.map(function (_, t) { return t; });
        const band = at.map(function (t) { return x(t) + ',' + y(s.high[t][i]); }).concat(at.slice().reverse().map(function (t) { return x(t) + ',' + y(s.low[t][i]); }));
        const a = el('polygon', { points: band.join(' ') }, 1), p = el('polyline', { points: at.map(function (t) { return x(t) + ',' + y(s.at[t][i]); }).join(' ') }, 1);
        a.style.setProperty('--c', s.color); p.style.setProperty('--c', s.color); box.append(a, p);
      });
      box.appendChild(el('line', { 'class': 'now', x1: x(state.t), x2: x(state.t), y1: 2, y2: h - b }, 1));
      [['noise', x(0), 'start'], ['image', w, 'end']].forEach(function (k) {
        const n = el('text', { x: k[1], y: h - 2, 'text-anchor': k[2] }, 1); n.textContent = k[0]; box.appendChild(n);
      });
    }

    slider.max = T - 1; slider.value = state.t;
    slider.addEventListener('input', function () { move(+slider.value); });
    root.addEventListener('click', function (e) { if (!e.target.closest('g[data-live], input')) state.pinned = false; });
    root.querySelectorAll('[hidden]').forEach(function (e) { e.hidden = false; });
    root.querySelector('.dcm-still').hidden = true;
    root.setAttribute('data-live', ''); rove(); draw();
  }
})
