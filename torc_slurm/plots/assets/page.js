// The page: unpacks its data and Plotly, draws each figure when it comes into view, and offers its controls.
(async () => {
  "use strict";
  const root = document.documentElement, nonce = document.currentScript.nonce;
  const state = new Map();   // the user's choices, by figure

  function fromBase64(text) {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
    const raw = atob(text), bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    return bytes;
  }
  async function unpacked(id) {
    const element = document.getElementById(id);
    const bytes = fromBase64(element.textContent);
    element.remove();
    if (!window.DecompressionStream) return new TextDecoder().decode(inflateGzip(bytes));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  }
  function element(name, properties = {}, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }
  function isDark() {
    const chosen = root.dataset.theme;
    return chosen === "dark" || (chosen !== "light" && window.matchMedia("(prefers-color-scheme: dark)").matches);
  }
  function remembered() { try { return localStorage.getItem("torc-theme"); } catch { return null; } }   // file:// may have no storage
  function remember(theme) { try { localStorage.setItem("torc-theme", theme); } catch { /* only for this page, then */ } }

  function choice(label, names, chosen, choose) {
    const buttons = names.map((name, place) => element("button", { type: "button", textContent: name,
      onclick: () => { press(place); choose(place); } }));
    const press = (place) => buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(i === place)));
    press(chosen);
    const group = element("span", { className: "group" }, ...buttons);
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", label);
    return group;
  }
  function select(label, names, choose) {
    const list = element("select", { onchange: () => choose(list.selectedIndex) }, ...names.map((name) => element("option", { textContent: name })));
    return element("label", {}, `${label} `, list);
  }
  function search(figure, id, redraw) {
    const names = element("datalist", { id: `names-${id}` }, ...figure.lines.slice(0, 5000).map((line) => element("option", { value: line.search })));
    const box = element("input", { type: "search", placeholder: "find a job by number or name" });
    box.setAttribute("list", names.id);
    box.oninput = () => {
      const words = box.value.trim().toLowerCase();
      const found = new Set();
      if (words) figure.lines.forEach((line, place) => { if (found.size < 12 && line.search.toLowerCase().includes(words)) found.add(place); });
      state.get(id).found = found;
      redraw();
    };
    return element("span", {}, box, names);
  }

  const figures = new Map();
  let data, theme;

  function svgButton(figure) {
    return { name: "svg", title: "Download plot as an SVG", icon: Plotly.Icons.disk,
      click: (plot) => Plotly.downloadImage(plot, { format: "svg", filename: data.file_name + "_" + figure.id, width: plot.offsetWidth, height: figure.height }) };
  }
  function draw(id) {
    const { figure, plot, drawn } = figures.get(id);
    const { traces, layout } = Figures.build(figure, data, theme, state.get(id));
    plot.querySelector(".waiting")?.remove();
    figures.get(id).drawn = true;
    const config = { responsive: true, displaylogo: false, plotlyServerURL: "",   // sends nothing
      modeBarButtons: [["toImage", svgButton(figure)], ["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "autoScale2d", "resetScale2d"]],
      toImageButtonOptions: { format: "png", scale: 2, filename: data.file_name + "_" + figure.id } };
    const done = drawn ? Plotly.react(plot, traces, layout) : Plotly.newPlot(plot, traces, layout, config);
    return done.then(() => { plot.dataset.drawn = "true"; });
  }
  function redrawAll() {
    theme = data.themes[isDark() ? "dark" : "light"];
    for (const [id, { drawn }] of figures) if (drawn) draw(id);
  }
  function tools(figure, id) {
    const made = [], chosen = state.get(id), redraw = () => draw(id);
    if (figure.time) {
      made.push(choice("time", ["since the start", "wall clock"], chosen.mode === "wall" ? 1 : 0, (place) => { chosen.mode = place ? "wall" : "relative"; redraw(); }));
    }
    if (figure.sorts) made.push(select("sorted by", figure.sorts.map(({ name }) => name), (place) => { chosen.sort = place; redraw(); }));
    if (figure.kind === "compare" && figure.lines.length > figure.most_coloured) {
      made.push(select("in colour:", figure.orders, (place) => { chosen.order = place; redraw(); }), search(figure, id, redraw));
    }
    return made;
  }
  function setUp() {
    const seen = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target.dataset.figure); }
    }, { rootMargin: "600px" });
    for (const figure of data.figures) {
      const place = document.querySelector(`[data-figure="${figure.id}"]`);
      state.set(figure.id, { mode: figure.time || "relative", sort: 0, order: 0, found: new Set() });
      figures.set(figure.id, { figure, plot: place.querySelector(".plot"), drawn: false });
      place.querySelector(".tools").append(...tools(figure, figure.id));
      seen.observe(place);
    }
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
    window.addEventListener("beforeprint", () => { for (const [id, { drawn }] of figures) if (!drawn) draw(id); });
  }
  function themeButton() {
    const names = ["auto", "light", "dark"];
    const before = remembered();
    if (names.includes(before)) root.dataset.theme = before;
    return choice("theme", names, names.indexOf(root.dataset.theme), (place) => {
      root.dataset.theme = names[place];
      remember(names[place]);
      if (theme) redrawAll();
    });
  }
  function fail(error) {
    document.getElementById("main").prepend(element("p", { className: "error", textContent: `This page could not be drawn: ${error.message}` }));
    throw error;
  }

  document.getElementById("controls").append(themeButton());
  try {
    data = JSON.parse(await unpacked("data"));
    for (const place of document.querySelectorAll("[data-table]")) Tables.show(place, data.tables[place.dataset.table], element);
    if (data.figures.length) {
      if (document.getElementById("plotly")) {
        const code = document.createElement("script");
        code.nonce = nonce;
        code.textContent = await unpacked("plotly");
        document.head.append(code);
      } else if (!window.Plotly) {
        const file = document.getElementById("plotly-file").getAttribute("src");
        throw new Error(`${file} must lie beside this page; torc plot-resources --self-contained makes pages that need nothing`);
      }
      theme = data.themes[isDark() ? "dark" : "light"];
      setUp();
    }
    root.dataset.ready = "true";
  } catch (error) { fail(error); }
})();
