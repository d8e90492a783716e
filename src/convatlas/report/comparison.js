// Pointing at a network anywhere shows its row as a card and fades the others in every chart; headings sort the table.
(() => {
  const table = document.querySelector("table.compared");
  const rows = new Map([...table.tBodies[0].rows].map((row) => [row.dataset.name, row]));
  const titles = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  const card = document.getElementById("card");
  const marks = [...document.querySelectorAll("figure svg [aria-label]")].filter((mark) => rows.has(name(mark)));
  let pinned = null;

  function name(element) {
    return element.getAttribute("aria-label");
  }

  function show(which) {
    document.body.classList.toggle("pointing", which !== null);
    for (const mark of marks) mark.classList.toggle("on", name(mark) === which);
    for (const [key, row] of rows) row.classList.toggle("on", key === which);
  }

  function describe(which, event) {
    const heading = document.createElement("strong");
    heading.textContent = which;
    const list = document.createElement("dl");
    [...rows.get(which).cells].slice(1).forEach((cell, index) => {
      for (const [tag, text] of [["dt", titles[index + 1]], ["dd", cell.textContent]]) {
        list.appendChild(document.createElement(tag)).textContent = text;
      }
    });
    card.replaceChildren(heading, list);
    card.hidden = false;
    const left = Math.min(event.clientX + 16, innerWidth - card.offsetWidth - 8);
    const above = event.clientY + 16 + card.offsetHeight > innerHeight;
    card.style.left = `${Math.max(left, 8)}px`;
    card.style.top = `${Math.max(above ? event.clientY - card.offsetHeight - 16 : event.clientY + 16, 8)}px`;
  }

  for (const mark of marks) {
    mark.addEventListener("pointerenter", (event) => { show(name(mark)); describe(name(mark), event); });
    mark.addEventListener("pointerleave", () => { show(pinned); card.hidden = true; });
    mark.addEventListener("click", () => { pinned = pinned === name(mark) ? null : name(mark); show(pinned); });
  }
  for (const [key, row] of rows) {
    row.addEventListener("pointerenter", () => show(key));
    row.addEventListener("pointerleave", () => show(pinned));
    row.addEventListener("click", () => { pinned = pinned === key ? null : key; show(pinned); });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { pinned = null; show(null); card.hidden = true; }
  });

  [...table.tHead.rows[0].cells].forEach((cell, column) => {
    cell.querySelector("button").addEventListener("click", () => {
      const down = cell.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => {
        const { number } = row.cells[column].dataset;
        return number === undefined ? null : Number(number);
      };
      const compare = (a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === null && y === null) return a.cells[column].textContent.localeCompare(b.cells[column].textContent) * (down ? -1 : 1);
        if (x === null || y === null) return x === null ? 1 : -1; // what is not known comes last
        return down ? y - x : x - y;
      };
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
    });
  });
})();
