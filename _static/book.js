// What a page of the book can do: enlarge figures, sort and filter large tables, show prose in search results. Plain DOM: no library, no request.
(function () {
  'use strict';
  const numbers = /^[^\d−-]{0,2}([−-]?[\d,]*\.?\d+)(?:·10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?/, powers = '⁰¹²³⁴⁵⁶⁷⁸⁹';

  function el(tag, attrs, text) {
    const e = document.createElement(tag);
    Object.keys(attrs || {}).forEach(k => e.setAttribute(k, attrs[k]));
    if (text !== undefined) e.textContent = text;
    return e;
  }

  // ---- figures: a larger view in a dialog; the figure itself moves there and back ----------------------------------
  function enlarge(button) {
    const under = button.closest('.dc-under'), cell = under && under.previousElementSibling, figure = cell && cell.querySelector('.dc-fig');
    if (!figure) return;
    const caption = cell.querySelector('figcaption'), name = caption ? caption.textContent.replace(/#\s*$/, '').trim() : figure.getAttribute('aria-label');
    const box = el('dialog', { class: 'dc-large', 'aria-label': name.slice(0, 120) }), close = el('button', { type: 'button', class: 'dc-close' }, 'Close');
    const place = el('div'), words = el('p', {}, name);
    place.style.height = figure.offsetHeight + 'px';
    figure.before(place); box.append(close, figure, words); document.body.append(box);
    box.addEventListener('close', () => { place.replaceWith(figure); box.remove(); button.focus(); });
    box.addEventListener('click', e => { if (e.target === box) box.close(); });
    close.addEventListener('click', () => box.close());
    box.showModal(); close.focus();
  }
  function figures() {
    document.querySelectorAll('.dc-enlarge').forEach(b => { b.hidden = false; b.addEventListener('click', () => enlarge(b)); });
    document.querySelectorAll('.dc-under').forEach(u => {
      const figure = u.previousElementSibling && u.previousElementSibling.querySelector('.dc-fig[role=img]');
      if (figure) figure.addEventListener('click', () => { const b = u.querySelector('.dc-enlarge'); if (b && !getSelection().toString()) enlarge(b); });
    });
  }

  // ---- tables ------------------------------------------------------------------------------------------------------
  function value(cell) {  // a number where the cell begins with one, else its text
    const text = cell.textContent.trim(), m = numbers.exec(text);
    if (text === '–' || text === '') return null;
    if (!m) return text.toLowerCase();
    const power = m[2] ? +[...m[2]].map(c => c === '⁻' ? '-' : powers.indexOf(c)).join('') : 0;
    return +m[1].replace('−', '-').replace(/,/g, '') * Math.pow(10, power);
  }
  function compare(a, b) {  // nothing comes last, numbers before words
    if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1;
    return typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === 'number' ? -1 : 1;
  }
  function sortable(table) {
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells], body = table.tBodies[0], first = [...body.rows];
    heads.forEach((th, i) => {
      const b = el('button', { type: 'button', class: 'dc-sort' });
      b.append(...th.childNodes); th.append(b);
      b.addEventListener('click', () => {
        const next = { none: 'ascending', ascending: 'descending', descending: 'none' }[th.getAttribute('aria-sort') || 'none'];
        heads.forEach(h => h.removeAttribute('aria-sort'));
        if (next !== 'none') th.setAttribute('aria-sort', next);
        const keyed = first.map((r, k) => [value(r.cells[i]), k, r]), sign = next === 'descending' ? -1 : 1;
        if (next !== 'none') keyed.sort((a, b) => (a[0] === null || b[0] === null ? compare(a[0], b[0]) : sign * compare(a[0], b[0])) || a[1] - b[1]);
        body.append(...keyed.map(k => k[2]));
      });
    });
  }
  function filtered(table, box) {
    const rows = [...table.tBodies[0].rows], bar = el('form', { class: 'dc-filter', role: 'search', 'aria-label': 'Filter the rows of this table' });
    const label = el('label', {}, 'Rows with '), words = el('input', { type: 'search', placeholder: 'words or numbers' }), said = el('output', { 'aria-live': 'polite' });
    label.append(words); bar.append(label, said); box.before(bar);
    function update() {
      const want = words.value.toLowerCase().split(/\s+/).filter(Boolean); let n = 0;
      rows.forEach(r => { const on = want.every(w => r.textContent.toLowerCase().includes(w)); r.hidden = !on; n += on; });
      said.textContent = n + ' of ' + rows.length + ' rows'; edge(box);
    }
    bar.addEventListener('input', update); bar.addEventListener('submit', e => e.preventDefault()); update();
  }
  function tables() {
    document.querySelectorAll('.bd-article table.table').forEach(table => {
      const box = table.closest('.pst-scrollable-table-container'), row = table.tHead && table.tHead.rows[0], caption = table.querySelector('caption .caption-text');
      if (!box || !row || !table.tBodies.length) return;
      const n = table.tBodies[0].rows.length, long = n >= 40, wide = row.cells.length > 8;
      box.setAttribute('role', 'region'); box.setAttribute('aria-label', ('Table: ' + (caption ? caption.textContent : row.textContent)).trim().slice(0, 100));
      box.tabIndex = 0;
      box.addEventListener('scroll', () => edge(box), { passive: true });
      if (n < 20 && !wide) return;
      table.classList.add('dc-big'); box.classList.add('dc-box'); box.classList.toggle('dc-tall', long && table.id !== 'tbl-ledger');
      sortable(table);
      if (table.id !== 'tbl-ledger' && n > 12) filtered(table, box);
    });
  }
  // does the right edge of a table's place cut it off?
  function edge(box) { box.classList.toggle('dc-after', box.scrollLeft + box.clientWidth < box.scrollWidth - 1); }
  // on a phone: is it better to move this table sideways than down?
  function roomy(box) {
    const table = box.querySelector('table.table'), at = box.scrollLeft; if (!table) return;
    table.classList.remove('dc-roomy');
    table.classList.toggle('dc-roomy', innerWidth <= 640 && (box.scrollWidth > box.clientWidth + 1 || table.offsetHeight > 1200));
    box.scrollLeft = at;
  }
  // regions that scroll can be reached by keys
  function reachable() {
    document.querySelectorAll('.pst-scrollable-table-container').forEach(box => { roomy(box); edge(box); });
    document.querySelectorAll('.dc-fig, div.highlight pre, .dcm-set, .math, .dc-scroll').forEach(e => {
      if (e.scrollWidth > e.clientWidth + 1) { e.tabIndex = 0; if (!e.getAttribute('role')) { e.setAttribute('role', 'region'); e.setAttribute('aria-label', e.matches('pre') ? 'Code' : e.matches('.math') ? 'Formula' : 'Figure'); } }
    });
  }

  // ---- search: what stands below a result is the page's prose, not its code or its buttons -----------------------------
  function prose(text, anchor) {
    const page = new DOMParser().parseFromString(text, 'text/html');
    const at = anchor && page.querySelector('[role="main"] ' + anchor), main = (at && at.closest('section')) || page.querySelector('article.bd-article') || page.body;
    main.querySelectorAll('.headerlink, script, style, details, .cell_input, .dc-under, .dc-fig, .dc-prov, table, h1, .math, nav').forEach(e => e.remove());
    return main.textContent.replace(/\s+/g, ' ');
  }
  function search() { if (typeof Search !== 'undefined') Search.htmlToText = prose; }  // the theme's own, of the page of results

  // ---- paper: what is folded inside tables is unfolded ------------------------------------------------------------------
  addEventListener('beforeprint', () => document.querySelectorAll('td details').forEach(d => { d.dataset.was = d.open; d.open = true; }));
  addEventListener('afterprint', () => document.querySelectorAll('td details').forEach(d => { d.open = d.dataset.was === 'true'; }));

  // the theme names this button otherwise than it reads
  function names() { document.querySelectorAll('.search-button-field').forEach(b => b.removeAttribute('aria-label')); }

  function start() { names(); figures(); tables(); reachable(); search(); addEventListener('resize', reachable); }
  if (document.readyState === 'loading') document.addEventListener('DOMContentLoaded', start); else start();
}());
