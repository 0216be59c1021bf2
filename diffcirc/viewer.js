// The attention viewer of chapter "Attention while the noise is taken away". Plain DOM and canvas: no library, no request.
// A function expression; diffcirc.viewer appends the call with the viewer's id. All text from data goes through textContent.
(function (uid) {
  'use strict';
  const LOW = -2;  // the colour scale begins at a quarter of an even share: log2(1/4)
  document.querySelectorAll('[data-dcv="' + uid + '"]:not([data-live])').forEach(start);

  function start(root) {
    const d = JSON.parse(root.querySelector('.dcv-data').textContent);
    const n = d.n, side = Math.round(Math.sqrt(n)), T = d.timesteps.length, H = d.heads.length;
    const lut = bytes(d.lut), state = { t: 0, head: 0, query: null, pinned: false };
    let maps = null, unpacked = 'not yet';
    const live = el('div', 'dcv-live'), slider = el('input'), clock = el('output', 'dcv-clock');
    const say = el('p', 'dcv-say'), legend = { low: el('span'), one: el('span'), high: el('span') };
    const sets = d.sets.map(function (s) { return Object.assign({}, s, { received: bytes(s.received) }); });

    function el(tag, cls, text) {
      const e = document.createElement(tag);
      if (cls) e.className = cls;
      if (text !== undefined) e.textContent = text;
      return e;
    }
    function bytes(b64) { return Uint8Array.from(atob(b64), function (c) { return c.charCodeAt(0); }); }
    function add(parent) { for (let i = 1; i < arguments.length; i++) parent.appendChild(arguments[i]); return parent; }
    function pct(x) { return (100 * x).toFixed(x < .0995 ? 1 : 0) + '\u00a0%'; }
    function bits(x) { return x.toFixed(2); }

    // ---- numbers -------------------------------------------------------------------------------------------------
    function received(s) {  // share of attention each position receives, averaged over queries
      const at = (state.t * H + state.head) * n, m = s.receivedMax[state.t][state.head];
      return Float32Array.from(s.received.subarray(at, at + n), function (v) { return v / 255 * m; });
    }
    function row(k) {  // what position state.query attends to: 4 bits per value, square root of value / largest value
      const at = ((k * T + state.t) * H + state.head) * n + state.query, m = maps.max[at] / 65535, out = new Float32Array(n);
      for (let j = 0; j < n; j++) {
        const b = maps.code[(at * n + j) >> 1], q = j & 1 ? b & 15 : b >> 4;
        out[j] = m * (q / 15) * (q / 15);
      }
      return out;
    }
    function paint(canvas, share, high, veiled) {  // side × side picture on the log scale; a veil covers little where little is attended to
      const c = canvas.getContext('2d'), im = c.createImageData(side, side);
      for (let i = 0; i < n; i++) {
        const x = Math.min(1, Math.max(0, (Math.log2(Math.max(share[i] * n, 1e-9)) - LOW) / (high - LOW))), k = 3 * Math.round(255 * x);
        im.data.set([lut[k], lut[k + 1], lut[k + 2], veiled ? 70 + 130 * x : 255], 4 * i);
      }
      c.putImageData(im, 0, 0);
    }

    // ---- page ----------------------------------------------------------------------------------------------------
    function grid(cls) { const c = el('canvas', cls); c.width = c.height = side; return c; }
    function sprite(url) { const im = new Image(); im.onload = draw; im.src = url; return im; }
    function picture(s, which, caption) {
      const f = el('div', 'dcv-pic'), c = el('canvas'), label = el('div', 'dcv-note', caption);
      c.width = c.height = 32 * side; c.tabIndex = 0; c.dataset.pic = which; c.setAttribute('role', 'img');
      c.setAttribute('aria-label', s.label + ', ' + caption + '. Arrow keys choose a position, Escape lets it go.');
      c.addEventListener('pointermove', function (e) { if (e.pointerType === 'mouse' && !state.pinned) ask(cell(c, e)); });
      c.addEventListener('pointerleave', function (e) { if (e.pointerType === 'mouse' && !state.pinned) ask(null); });
      c.addEventListener('click', function (e) {
        const q = cell(c, e); state.pinned = !(state.pinned && q === state.query); ask(state.pinned ? q : null);
      });
      c.addEventListener('keydown', function (e) {
        const q = state.query === null ? (side >> 1) * side + (side >> 1) : state.query, r = Math.floor(q / side), k = q % side;
        const to = { ArrowUp: [r - 1, k], ArrowDown: [r + 1, k], ArrowLeft: [r, k - 1], ArrowRight: [r, k + 1] }[e.key];
        if (e.key === 'Escape') { state.pinned = false; ask(null); }
        if (!to) return;
        e.preventDefault(); e.stopPropagation(); state.pinned = true;
        ask(state.query === null ? q : Math.min(side - 1, Math.max(0, to[0])) * side + Math.min(side - 1, Math.max(0, to[1])));
      });
      add(f, c, label); s[which] = { canvas: c, sprite: sprite(d.sets[sets.indexOf(s)][which]) };
      return f;
    }
    function cell(c, e) {
      const b = c.getBoundingClientRect(), at = function (x, w) { return Math.min(side - 1, Math.max(0, Math.floor(x / w * side))); };
      return at(e.clientY - b.top, b.height) * side + at(e.clientX - b.left, b.width);
    }
    function ask(q) { state.query = maps ? q : null; draw(); }
    function spark(s, h) {  // the head's entropy over all timesteps, 0 to the ceiling log2 n
      const ns = 'http://www.w3.org/2000/svg', svg = document.createElementNS(ns, 'svg'), p = document.createElementNS(ns, 'polyline');
      const dot = document.createElementNS(ns, 'circle'), x = function (t) { return T > 1 ? 2 + 96 * t / (T - 1) : 50; };
      const y = function (t) { return 25 - 23 * s.entropy[t][h] / Math.log2(n); };
      svg.setAttribute('viewBox', '0 0 100 27'); svg.setAttribute('aria-hidden', 'true'); svg.setAttribute('class', 'dcv-spark');
      p.setAttribute('points', d.timesteps.map(function (_, t) { return x(t) + ',' + y(t); }).join(' ')); dot.setAttribute('r', '2.6');
      add(svg, p, dot);
      return { svg: svg, move: function () { dot.setAttribute('cx', x(state.t)); dot.setAttribute('cy', y(state.t)); } };
    }
    function tile(s, h) {
      const b = el('button', 'dcv-head'), c = grid(), e = el('span', 'dcv-bits'), sp = spark(s, h), name = el('span', 'dcv-hname', d.heads[h]);
      b.type = 'button'; b.style.setProperty('--c', d.colors[h]); b.title = d.heads[h];
      ['pointerenter', 'focus', 'click'].forEach(function (type) { b.addEventListener(type, function () { state.head = h; draw(); }); });
      b.tabIndex = h === state.head ? 0 : -1; b.addEventListener('keydown', function (k) {  // one stop for the Tab key; the arrow keys go from head to head
        const to = { ArrowLeft: h - 1, ArrowRight: h + 1, ArrowUp: h - 4, ArrowDown: h + 4, Home: 0, End: H - 1 }[k.key];
        if (to === undefined) return;
        k.preventDefault(); k.stopPropagation();
        if (s.tiles[to]) s.tiles[to].button.focus();
      });
      add(b, name, c, e, sp.svg);
      return { button: b, canvas: c, bits: e, spark: sp };
    }
    function section(s) {
      const box = el('div', 'dcv-set'), name = el('div', 'dcv-name', s.label), heads = el('div', 'dcv-heads');
      name.style.color = s.color; box.setAttribute('role', 'group'); box.setAttribute('aria-label', s.label);
      heads.setAttribute('role', 'group'); heads.setAttribute('aria-label', 'attention heads');
      s.tiles = d.heads.map(function (_, h) { return tile(s, h); });
      s.tiles.forEach(function (t) { heads.appendChild(t.button); });
      const body = add(el('div', 'dcv-body'), picture(s, 'images', 'noisy image'), picture(s, 'clean', 'implied clean image'), heads);
      return add(box, name, body);
    }
    function step(by) { slider.value = Math.min(T - 1, Math.max(0, state.t + by)); slide(); }
    function slide() { state.t = +slider.value; draw(); }

    // ---- drawing -------------------------------------------------------------------------------------------------
    function show(s, which, overlay) {
      const p = s[which], c = p.canvas.getContext('2d'), w = p.canvas.width, h = s.size[0], v = s.size[1];
      c.clearRect(0, 0, w, w); c.imageSmoothingEnabled = true; c.imageSmoothingQuality = 'high';
      if (p.sprite.complete && p.sprite.naturalWidth) c.drawImage(p.sprite, 0, state.t * h, v, h, 0, 0, w, w);
      if (overlay) { c.imageSmoothingEnabled = false; c.drawImage(overlay, 0, 0, w, w); }
      if (state.query === null) return;
      const u = w / side, x = state.query % side * u, y = Math.floor(state.query / side) * u;
      c.lineWidth = 5; c.strokeStyle = '#111'; c.strokeRect(x, y, u, u); c.lineWidth = 2.5; c.strokeStyle = '#fff'; c.strokeRect(x, y, u, u);
    }
    const veil = grid();
    function draw() {
      const asked = state.query !== null, high = asked ? d.highQuery : d.highReceived, best = [], keep = state.head;
      sets.forEach(function (s, k) {
        s.tiles.forEach(function (t, h) {
          state.head = h; paint(t.canvas, received(s), d.highReceived); t.spark.move();
          t.bits.textContent = bits(s.entropy[state.t][h]) + ' bits';
          t.button.setAttribute('aria-pressed', String(h === keep)); t.button.tabIndex = h === keep ? 0 : -1;
        });
        state.head = keep;
        const share = asked ? row(k) : received(s);
        paint(veil, share, high, true); show(s, 'images', null); show(s, 'clean', veil);
        best.push((asked ? pct(Math.max.apply(null, share)) : bits(s.entropy[state.t][keep]) + '\u00a0bits') + ' (' + s.label + ')');
      });
      clock.textContent = 't = ' + d.timesteps[state.t]; slider.setAttribute('aria-valuetext', 'timestep ' + d.timesteps[state.t]);
      legend.high.textContent = '≥\u2009' + Math.round(Math.pow(2, high)) + '×'; legend.one.style.left = 100 * -LOW / (high - LOW) + '%';
      say.textContent = d.heads[keep] + ' at t = ' + d.timesteps[state.t] + (asked
        ? ': what the outlined position (row ' + (Math.floor(state.query / side) + 1) + ', column ' + (state.query % side + 1) + ') attends to. Its largest share is ' + best.join(', ') + '; an even share is ' + pct(1 / n) + '.'
        : ': how much attention each position receives, averaged over all ' + n + ' positions. Entropy ' + best.join(', ') + '; even attention has ' + bits(Math.log2(n)) + '.'
          + (maps ? ' Point at a position in a picture to see what it attends to.' : unpacked === 'never' ? ' This browser cannot unpack the maps of single positions.' : ''));
    }

    // ---- the full maps, deflated ---------------------------------------------------------------------------------
    function unpack() {
      if (typeof DecompressionStream === 'undefined') { unpacked = 'never'; return draw(); }
      const stream = new Blob([bytes(d.maps)]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
      new Response(stream).arrayBuffer().then(function (buf) {
        const rows = sets.length * T * H * n, code = rows * n / 2;
        if (buf.byteLength !== code + 2 * rows) throw new Error('the maps have ' + buf.byteLength + ' bytes, not ' + (code + 2 * rows));
        const view = new DataView(buf, code), max = new Uint16Array(rows);
        for (let i = 0; i < rows; i++) max[i] = view.getUint16(2 * i, true);
        maps = { code: new Uint8Array(buf, 0, code), max: max }; root.dataset.maps = 'ready'; draw();
      }).catch(function (e) { unpacked = 'never'; root.dataset.maps = 'failed'; console.error(e); draw(); });
    }

    const bar = el('div', 'dcv-bar'), ramp = el('canvas', 'dcv-ramp'), scale = el('div', 'dcv-scale'), ticks = el('div', 'dcv-ticks');
    slider.type = 'range'; slider.min = 0; slider.max = T - 1; slider.step = 1; slider.value = 0; slider.setAttribute('aria-label', 'timestep, from noise to image');
    slider.addEventListener('input', slide); legend.low.textContent = '≤\u2009¼×'; legend.one.textContent = '1×';
    ramp.width = 256; ramp.height = 1;
    const r = ramp.getContext('2d'), im = r.createImageData(256, 1);
    for (let i = 0; i < 256; i++) im.data.set([lut[3 * i], lut[3 * i + 1], lut[3 * i + 2], 255], 4 * i);
    r.putImageData(im, 0, 0);
    add(bar, el('span', 'dcv-note', 'noise'), slider, el('span', 'dcv-note', 'image'), clock);
    add(scale, el('div', 'dcv-note', 'attention relative to an even share'), ramp, add(ticks, legend.low, legend.one, legend.high));
    say.setAttribute('aria-live', 'polite'); live.appendChild(bar);
    sets.forEach(function (s) { live.appendChild(section(s)); });
    add(live, add(el('div', 'dcv-foot'), say, scale));
    live.addEventListener('keydown', function (e) {
      if (e.target === slider || (e.key !== 'ArrowLeft' && e.key !== 'ArrowRight')) return;
      e.preventDefault(); step(e.key === 'ArrowRight' ? 1 : -1);
    });
    slider.value = state.t = Math.floor(T / 2); draw();
    root.insertBefore(live, root.querySelector('.dcv-static')); root.setAttribute('data-live', ''); unpack();
  }
})
