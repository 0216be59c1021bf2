// The concept explorer. Plain DOM and canvas: no library, no request. A function expression; diffcirc.book.explorer appends
// the call with the figure's id. All text from data goes through textContent.
(function (uid) {
  'use strict';
  document.querySelectorAll('[data-dce="' + uid + '"]:not([data-live])').forEach(start);

  function start(root) {
    const d = JSON.parse(root.querySelector('.dce-data').textContent);
    const T = d.timesteps.length, n = d.n, side = d.side, state = { concept: 0, t: Math.floor(T / 2), way: 0 };
    const live = el('div', 'dce-live'), say = el('p', 'dce-say'), slider = el('input'), clock = el('output', 'dce-clock');
    const sets = d.sets.map(function (s) { return Object.assign({}, s, { maps: bytes(s.maps) }); });

    function el(tag, cls, text) {
      const e = document.createElement(tag);
      if (cls) e.className = cls;
      if (text !== undefined) e.textContent = text;
      return e;
    }
    function bytes(b64) { return Uint8Array.from(atob(b64), function (c) { return c.charCodeAt(0); }); }
    function add(parent) { for (let i = 1; i < arguments.length; i++) parent.appendChild(arguments[i]); return parent; }
    function sprite(url) { const im = new Image(); im.onload = draw; im.src = url; return im; }

    // ---- controls: native ones, so that keys and screen readers know them -------------------------------------------
    function choice(title, names, key) {
      const box = add(el('fieldset'), el('legend', '', title));
      names.forEach(function (name, i) {
        const input = el('input'), label = el('label');
        input.type = 'radio'; input.name = uid + key; input.value = i; input.checked = i === state[key];
        input.addEventListener('change', function () { state[key] = i; draw(); });
        add(box, add(label, input, el('span', '', name)));
      });
      return box;
    }
    function time() {
      slider.type = 'range'; slider.min = 0; slider.max = T - 1; slider.step = 1; slider.value = state.t;
      slider.setAttribute('aria-label', 'timestep, from noise to image');
      slider.addEventListener('input', function () { state.t = +slider.value; draw(); });
      return add(el('div', 'dce-time'), el('span', 'dce-note', 'noise'), slider, el('span', 'dce-note', 'image'), clock);
    }

    // ---- pictures ----------------------------------------------------------------------------------------------------
    function row(s, key, title) {
      const faces = el('div', 'dce-faces'), canvases = [];
      for (let i = 0; i < n; i++) {
        const c = el('canvas');
        c.width = c.height = 4 * s.px; c.setAttribute('role', 'img'); canvases.push(c); faces.appendChild(c);
      }
      s.rows[key] = canvases;
      return add(el('div', 'dce-row'), el('div', 'dce-note', title), faces);
    }
    function section(s) {
      const box = el('div', 'dce-set'), name = el('div', 'dce-name', s.label);
      box.setAttribute('role', 'group'); box.setAttribute('aria-label', s.label + (s.note ? ', ' + s.note : '')); name.style.color = s.color;
      s.rows = {}; s.sprites = { clean: sprite(s.clean), final: sprite(s.final), steered: sprite(s.steered) };
      add(box, name, el('div', 'dce-note', s.note || '\u00a0'), row(s, 'clean', 'predicted, and map'), row(s, 'final', 'finished'));
      d.stages.forEach(function (stage, k) { box.appendChild(row(s, k, stage + ' third')); });
      return box;
    }
    function paint(canvas, sheet, at, px, words) {
      const c = canvas.getContext('2d'), w = canvas.width;
      c.clearRect(0, 0, w, w); c.imageSmoothingEnabled = true; c.imageSmoothingQuality = 'high';
      if (sheet.complete && sheet.naturalWidth) c.drawImage(sheet, 0, at * px, px, px, 0, 0, w, w);
      canvas.setAttribute('aria-label', words);
    }
    function overlay(canvas, maps, at) {  // dark where the concept is silent
      const small = el('canvas'), c = small.getContext('2d');
      small.width = small.height = side;
      const im = c.createImageData(side, side);
      for (let j = 0; j < side * side; j++) {
        const v = maps[at * side * side + j] / 255;
        im.data.set(v > 0 ? [255, 220, 80, 60 + 150 * v] : [0, 0, 0, 120], 4 * j);
      }
      c.putImageData(im, 0, 0);
      const big = canvas.getContext('2d');
      big.imageSmoothingEnabled = false; big.drawImage(small, 0, 0, canvas.width, canvas.width);
    }
    function draw() {
      const c = state.concept, t = state.t, name = d.concepts[c], way = d.ways[state.way];
      sets.forEach(function (s) {
        if (!s.rows) return;
        for (let i = 0; i < n; i++) {
          const face = s.label + ', face ' + (i + 1);
          paint(s.rows.clean[i], s.sprites.clean, t * n + i, s.px, face + ': predicted at t = ' + d.timesteps[t] + ', with the map of ' + name);
          overlay(s.rows.clean[i], s.maps, (c * T + t) * n + i);
          paint(s.rows.final[i], s.sprites.final, i, s.px, face + ': finished, as it is');
          d.stages.forEach(function (stage, k) {
            const at = ((c * d.stages.length + k) * d.ways.length + state.way) * n + i;
            paint(s.rows[k][i], s.sprites.steered, at, s.px, face + ': finished, ' + name + ' turned ' + way + ' in the ' + stage + ' third');
          });
        }
      });
      clock.textContent = 't = ' + d.timesteps[t]; slider.setAttribute('aria-valuetext', 'timestep ' + d.timesteps[t]);
      say.textContent = name + ' at t = ' + d.timesteps[t] + ': active at ' + sets.map(function (s) {
        return (100 * s.active[c][t]).toFixed(1) + '\u00a0% of positions (' + s.label + ', unit ' + s.units[c] + (s.note ? ', ' + s.note : '') + ')';
      }).join(', ') + '. In the last three rows it is turned ' + way + ' by ' + d.beta + ' typical activities in one third of denoising; the early third is the noisiest.';
    }

    say.setAttribute('aria-live', 'polite');
    add(live, add(el('div', 'dce-bar'), choice('Concept', d.concepts, 'concept'), choice('Turn it', d.ways, 'way'), time()));
    const both = el('div', 'dce-sets');
    sets.forEach(function (s) { both.appendChild(section(s)); });
    add(live, both, say); draw();
    root.insertBefore(live, root.querySelector('.dce-static')); root.setAttribute('data-live', '');
  }
})
