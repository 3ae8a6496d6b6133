// Turns the page's figures into Plotly's: inserts measured values, times of the chosen clock, colours of the theme.
const Figures = (() => {
  "use strict";
  const UNITS = [["days", 86400], ["hours", 3600], ["minutes", 60], ["seconds", 1]];

  function column({ d, mul = 1, div = 1 }) {   // differences -> values
    const values = new Array(d.length);
    let sum = 0;
    for (let i = 0; i < d.length; i++) {
      if (d[i] === null) { values[i] = null; continue; }
      sum += d[i];
      values[i] = sum * mul / div;
    }
    return values;
  }

  function withGaps(times, values, breaks) {   // a null after each position of `breaks` breaks the line there
    if (!breaks.length) return [times, values];
    const x = [], y = [];
    let begin = 0;
    for (const place of [...breaks, times.length - 1]) {
      for (let i = begin; i <= place; i++) { x.push(times[i]); y.push(values[i]); }
      if (place + 1 < times.length) { x.push((times[place] + times[place + 1]) / 2); y.push(null); }
      begin = place + 1;
    }
    return [x, y];
  }

  const decoded = new Map();
  function points(series, name, number) {
    const key = `${name}/${number}`;
    if (!decoded.has(key)) {
      const one = series[name];
      decoded.set(key, withGaps(column(one.t), column(one.columns[number]), one.breaks));
    }
    return decoded.get(key);
  }

  function unitFor(seconds) {
    return UNITS.find(([, size]) => seconds >= 2 * size) || UNITS[UNITS.length - 1];
  }

  function clockOf(data, figure, mode) {
    if (mode === "wall") {
      const shift = data.clock.offset_seconds * 1000;
      return { time: (at) => at + shift, length: (ms) => ms,
        axis: { type: "date", title: { text: `wall clock (${data.clock.name})`, font: { size: 12 } }, hoverformat: "%Y-%m-%d %H:%M:%S" } };
    }
    const [unit, size] = unitFor(figure.seconds);
    return { time: (at, origin) => (at - origin) / 1000 / size, length: (ms) => ms / 1000 / size,
      axis: { type: "linear", rangemode: "tozero", title: { text: `${unit} since the start`, font: { size: 12 } }, hoverformat: ".6~g" } };
  }

  function shade(role, theme) {   // "@0/0.3" -> rgba of the theme; anything else is a colour already
    if (typeof role !== "string" || role[0] !== "@") return role;
    const [name, opacity] = role.slice(1).split("/");
    const hex = theme[name];
    if (!opacity) return hex;
    const part = (i) => parseInt(hex.slice(i, i + 2), 16);
    return `rgba(${part(1)},${part(3)},${part(5)},${opacity})`;
  }

  function coloured(value, theme) {   // a copy in which every key that ends in "color" has its colour
    if (Array.isArray(value)) return value.length && typeof value[0] === "object" ? value.map((each) => coloured(each, theme)) : value;
    if (value === null || typeof value !== "object") return value;
    const copy = {};
    for (const [key, each] of Object.entries(value)) copy[key] = key.endsWith("color") ? shade(each, theme) : coloured(each, theme);
    return copy;
  }

  function dots({ x, y, ...look }) {   // a sample with gaps on both sides gets a dot, because no line shows it
    const alone = y.flatMap((value, i) => (value !== null && (y[i - 1] ?? null) === null && (y[i + 1] ?? null) === null ? [i] : []));
    if (!alone.length) return [];
    const { fill, fillcolor, text, ...kept } = look;
    return [{ ...kept, mode: "markers", x: alone.map((i) => x[i]), y: alone.map((i) => y[i]), ...(text ? { text: alone.map((i) => text[i]) } : {}),
      marker: { size: 5, color: look.line.color }, legendgroup: look.legendgroup || look.name, showlegend: false }];
  }

  function trace(raw, data, clock) {
    const { series, column: number, points: times, spans, origin, ...kept } = raw;
    if (series !== undefined) {
      const [x, y] = points(data.series, series, number);
      const line = { ...kept, x: x.map((at) => clock.time(at, origin)), y };
      return [line, ...dots(line)];
    }
    if (times) return [{ ...kept, x: times.map((at) => clock.time(at, origin)) }];
    if (spans) return [{ ...kept, base: spans.begin.map((at) => clock.time(at, origin)), x: spans.length.map(clock.length) }];
    return [kept];
  }

  function placed(piece, clock) {   // a shape or an annotation at a time
    const { at, origin, only, ...kept } = piece;
    if (at === undefined) return kept;
    const x = clock.time(at, origin);
    return kept.type === "line" ? { ...kept, x0: x, x1: x } : { ...kept, x };
  }

  function shortened([times, values], most) {   // highest and lowest of each part, and its gaps
    const width = Math.ceil(values.length / Math.max(1, most / 2));
    if (width < 2) return [times, values];
    const x = [], y = [];
    for (let begin = 0; begin < values.length; begin += width) {
      const end = Math.min(begin + width, values.length), kept = new Set();
      let top = -1, low = -1;
      for (let i = begin; i < end; i++) {
        if (values[i] === null) { if (top < 0 || i + 1 === end) kept.add(i); continue; }
        if (top < 0 || values[i] > values[top]) top = i;
        if (low < 0 || values[i] < values[low]) low = i;
      }
      if (top >= 0) kept.add(top).add(low);
      for (const i of [...kept].sort((a, b) => a - b)) { x.push(times[i]); y.push(values[i]); }
    }
    return [x, y];
  }

  function compareTraces(figure, data, clock, state) {
    const before = (a, b) => b.order[state.order] - a.order[state.order] || b.order[1] - a.order[1];
    const by = figure.lines.map((line, place) => [line, place]).sort(([a], [b]) => before(a, b));
    const chosen = new Set(by.slice(0, figure.most_coloured).map(([, place]) => place));
    state.found.forEach((place) => chosen.add(place));
    const grey = { type: "scatter", mode: "lines", name: `${figure.lines.length - chosen.size} others`, x: [], y: [], text: [],
      line: { width: 0.6, color: figure.lines.length > 100 ? "@muted/0.22" : "@muted/0.5" }, hovertemplate: `%{text}<br>${figure.hover}<extra></extra>` };
    const traces = [];
    figure.lines.forEach((line, place) => {
      const all = points(data.series, line.series, 0);
      const [times, y] = chosen.has(place) ? all : shortened(all, figure.grey_points);
      const x = times.map((at) => clock.time(at, line.origin));
      if (!chosen.has(place)) {
        for (let i = 0; i < x.length; i++) { grey.x.push(x[i]); grey.y.push(y[i]); grey.text.push(line.label); }
        grey.x.push(null); grey.y.push(null); grey.text.push("");
        return;
      }
      const found = state.found.has(place);
      traces.push({ rank: found ? -Infinity : -line.order[state.order], found, type: "scatter", mode: "lines", name: line.label, x, y,
        hovertemplate: `${figure.hover}<extra>%{fullData.name}</extra>` });
    });
    traces.sort((a, b) => a.rank - b.rank);
    const lines = traces.map(({ rank, found, ...kept }, i) => ({ ...kept, line: { width: found ? 3.5 : 1.8, color: `@${i % 6}`, dash: i % 12 < 6 ? "solid" : "dash" } }));
    return (grey.x.length ? [grey, ...lines] : lines).flatMap((line) => [{ ...line, legendgroup: line.name }, ...dots(line)]);
  }

  function layout(figure, data, clock, theme, state) {
    const raw = figure.layout || {};
    const made = coloured(raw, theme);
    for (const key of ["shapes", "annotations"]) made[key] = (made[key] || []).filter((piece) => !piece.only || piece.only === state.mode).map((piece) => placed(piece, clock));
    const axis = { gridcolor: theme.grid, linecolor: theme.grid, zerolinecolor: theme.grid, automargin: true, tickfont: { size: 12 } };
    for (const key of Object.keys(made).filter((each) => each.startsWith("yaxis"))) made[key] = { ...axis, ...made[key] };
    made.yaxis = { ...axis, ...made.yaxis };
    made.xaxis = { ...axis, ...(figure.time ? clock.axis : {}), ...made.xaxis };
    if (figure.sorts) Object.assign(made.xaxis, { categoryorder: "array", categoryarray: figure.sorts[state.sort].order.map((place) => figure.traces[0].x[place]) });
    return {
      ...made, paper_bgcolor: theme.background, plot_bgcolor: theme.background, height: figure.height,
      font: { family: "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif", size: 13, color: theme.text },
      margin: { l: 74, r: 44, b: 50, ...made.margin },
      hoverlabel: { bgcolor: theme.background, bordercolor: theme.muted, font: { color: theme.text }, namelength: -1 },
      legend: { orientation: "h", y: 1 + 26 / (figure.height - 120), yanchor: "bottom", x: 0, xanchor: "left", ...made.legend },
      showlegend: true, dragmode: "zoom", uirevision: `${state.mode}`, modebar: { orientation: "v", color: theme.muted, activecolor: theme.text, bgcolor: "rgba(0,0,0,0)" },
    };
  }

  function build(figure, data, theme, state) {
    const clock = clockOf(data, figure, state.mode);
    const raw = figure.kind === "compare" ? compareTraces(figure, data, clock, state)
      : figure.traces.flatMap((each) => trace(each, data, clock));
    return { traces: raw.map((each) => coloured(each, theme)), layout: layout(figure, data, clock, theme, state) };
  }

  return { build };
})();
