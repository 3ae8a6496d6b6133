// A table of any number of rows that can be sorted and searched; cells are set as text, never as markup.
const Tables = (() => {
  "use strict";
  const MOST_ROWS = 2000;   // shown at once; a search covers all

  function shown(value, write) { return value === null ? "–" : write ? write[value] ?? String(value) : String(value); }

  function compare(a, b) {
    if (a === null || b === null) return (a === null) - (b === null);
    return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
  }

  // table: {columns: [{title, number?}], rows: [[cell]]}; a cell is a value, or [what it is sorted by, what is shown, link?, class?]
  function show(place, table, element) {
    const key = (cell) => (Array.isArray(cell) ? cell[0] : cell);
    const text = (cell) => (Array.isArray(cell) ? cell[1] : shown(cell));
    const found = table.rows.map((row) => [row.map(text).join(" ").toLowerCase(), row]);
    let by = null, down = false, words = "";
    const body = element("tbody"), count = element("span");
    const box = element("input", { type: "search", placeholder: "search all columns", oninput: () => { words = box.value.trim().toLowerCase(); fill(); } });
    const heads = table.columns.map((column, i) => {
      const button = element("button", { type: "button", textContent: column.title, onclick: () => { down = by === i ? !down : Boolean(column.number); by = i; fill(); } });
      return element("th", { className: column.number ? "number" : "" }, button);
    });

    function cellOf(cell, column) {
      const made = element("td", { className: (column.number ? "number " : "") + ((Array.isArray(cell) && cell[3]) || "") });
      const inside = element("bdi", { textContent: text(cell) });
      made.append(Array.isArray(cell) && cell[2] ? element("a", { href: cell[2] }, inside) : inside);
      return made;
    }
    function fill() {
      let rows = found.filter(([all]) => !words || all.includes(words)).map(([, row]) => row);
      if (by !== null) {
        const sign = down ? -1 : 1;
        rows = [...rows].sort((a, b) => {
          const one = key(a[by]), other = key(b[by]);
          return one === null || other === null ? compare(one, other) : sign * compare(one, other);
        });
      }
      body.replaceChildren(...rows.slice(0, MOST_ROWS).map((row) => element("tr", {}, ...row.map((cell, i) => cellOf(cell, table.columns[i])))));
      const more = rows.length > MOST_ROWS ? `, the first ${MOST_ROWS} shown` : "";
      count.textContent = `${rows.length} of ${table.rows.length}${more}`;
      heads.forEach((head, i) => head.setAttribute("aria-sort", by !== i ? "none" : down ? "descending" : "ascending"));
    }
    fill();
    place.append(element("div", { className: "tools" }, box, count),
      element("div", { className: "body" }, element("table", {}, element("thead", {}, element("tr", {}, ...heads)), body)));
  }
  return { show };
})();
