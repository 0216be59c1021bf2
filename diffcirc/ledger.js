// Filters for the ledger of claims. Plain DOM: no library, no request. The table is in the page; this only hides its lines.
(function () {
  'use strict';
  const at = document.getElementById('tbl-ledger'), table = at && (at.tagName === 'TABLE' ? at : at.querySelector('table'));
  if (!table || table.dataset.live) return;
  table.dataset.live = '1'; table.classList.add('dcl');
  const heads = [...table.tHead.rows[0].cells].map(c => c.textContent.trim()), col = n => heads.indexOf(n);
  const own = heads.filter(h => h !== 'computed elsewhere');  // words are looked for in this build's columns
  const rows = [...table.tBodies[0].rows], cell = (r, n) => r.cells[col(n)].textContent.trim();
  rows.forEach(r => [...r.cells].forEach((c, i) => { c.dataset.name = heads[i]; }));

  function el(tag, attrs, text) {
    const e = document.createElement(tag);
    Object.keys(attrs || {}).forEach(k => e.setAttribute(k, attrs[k]));
    if (text !== undefined) e.textContent = text;
    return e;
  }
  function choice(label, name, of) {  // a labelled menu of the values that occur
    const box = el('label', { class: 'dcl-field' }, label), menu = el('select', { name: name });
    menu.append(el('option', { value: '' }, 'all'));
    [...new Set(rows.flatMap(of))].forEach(v => menu.append(el('option', { value: v }, v)));
    box.append(menu); return { box: box, menu: menu, of: of };
  }
  // `Tables 1, 4` names two tables
  const place = r => cell(r, 'place').split(', ').map((p, i, all) => p.startsWith('Tables ') ? p.replace('Tables', 'Table') : /^\d/.test(p) && all[0].startsWith('Tables ') ? 'Table ' + p : p);
  const bar = el('form', { class: 'dcl-bar', role: 'search', 'aria-label': 'Filter the claims' });
  const menus = [choice('verdict', 'verdict', r => [cell(r, 'verdict')]), choice('place in the paper', 'place', place)];
  const find = el('label', { class: 'dcl-field' }, 'words'), words = el('input', { type: 'search', name: 'words', placeholder: 'for instance entropy 300' });
  const said = el('output', { class: 'dcl-said', 'aria-live': 'polite' });
  find.append(words); menus.forEach(m => bar.append(m.box)); bar.append(find, said);

  function remember() {  // the filters stand in the address, so that a view can be linked
    const q = new URLSearchParams(location.search);
    [...menus.map(m => m.menu), words].forEach(e => { if (e.value) q.set(e.name, e.value); else q.delete(e.name); });
    const to = location.pathname + (q.size ? '?' + q : '') + location.hash;
    try { if (to !== location.pathname + location.search + location.hash) history.replaceState(null, '', to); } catch (e) { /* a page without an address of its own */ }
  }
  function update() {
    const want = words.value.toLowerCase().split(/\s+/).filter(Boolean); let n = 0; const counts = {};
    rows.forEach(r => {
      const text = own.map(h => cell(r, h)).join(' ').toLowerCase();
      const on = menus.every(m => !m.menu.value || m.of(r).includes(m.menu.value)) && want.every(w => text.includes(w));
      r.hidden = !on;
      if (on) { n++; const v = cell(r, 'verdict'); counts[v] = (counts[v] || 0) + 1; }
    });
    remember();
    said.textContent = n + ' of ' + rows.length + ' claims' + (n ? ': ' + Object.keys(counts).map(v => counts[v] + ' ' + v).join(', ') : '');
  }
  bar.addEventListener('input', update);
  bar.addEventListener('submit', e => e.preventDefault());
  (table.closest('.pst-scrollable-table-container') || table).before(bar);
  const q = new URLSearchParams(location.search);  // a link may carry a filter: ?verdict=contradicted
  menus.forEach(m => { const v = q.get(m.menu.name); if (v && [...m.menu.options].some(o => o.value === v)) m.menu.value = v; });
  if (q.get('words')) words.value = q.get('words');
  update();
}());
