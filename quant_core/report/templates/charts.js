/* Draws the report's charts with Observable Plot; every text comes ready-made with the data. */
"use strict";
(async () => {
  const packed = Uint8Array.from(atob(document.getElementById("data").textContent), (letter) => letter.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const data = JSON.parse(await new Response(unpacked).text());
  const look = { fontFamily: "inherit", fontSize: "12px", background: "transparent", color: "var(--soft)", overflow: "visible" };
  const lit = { fill: "none", stroke: "var(--ink)", strokeWidth: 1.5 };

  function element(name, text, children = []) {
    const node = document.createElement(name);
    if (text !== null) node.textContent = text;
    node.append(...children);
    return node;
  }

  /* Draws into #id and again whenever its width changes. What the pointer is at is told in a box beside it, and to
     screen readers; the arrow keys move the pointer from datum to datum. A click or Enter passes it to `choose`. */
  function chart(id, points, place, draw, choose) {
    const box = document.getElementById(id);
    if (!box) return () => {};
    const said = box.parentElement.querySelector(".said");
    const tip = element("div", "");
    tip.className = "tip";
    tip.setAttribute("aria-hidden", "true");
    let plot, width, current = -1;
    const tell = () => {
      tip.hidden = !plot.value;
      if (!plot.value) return;
      said.textContent = plot.value.text.join(". ");
      tip.replaceChildren(...plot.value.text.map((line, index) => element(index ? "div" : "strong", line)));
      const [x, y] = place(plot, plot.value), above = y - tip.offsetHeight - 14;
      tip.style.left = `${Math.max(0, Math.min(width - tip.offsetWidth, x - tip.offsetWidth / 2))}px`;
      tip.style.top = `${above > -20 ? above : y + 14}px`;
    };
    const render = () => {
      plot = draw(width);
      plot.setAttribute("aria-hidden", "true");
      plot.addEventListener("input", tell);
      tip.hidden = true;
      box.replaceChildren(plot, tip);
    };
    if (choose) box.addEventListener("click", () => { if (plot.value) choose(plot.value); });
    box.addEventListener("keydown", (event) => {
      if (choose && current >= 0 && (event.key === "Enter" || event.key === " ")) {
        event.preventDefault();
        choose(points()[current]);
        return;
      }
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const all = points();
      if (!step || !all.length) return;
      event.preventDefault();
      current = Math.max(0, Math.min(all.length - 1, current + step));
      const { left, top } = plot.getBoundingClientRect(), [x, y] = place(plot, all[current]);
      plot.dispatchEvent(new PointerEvent("pointermove", { clientX: left + x, clientY: top + y, pointerType: "mouse" }));
    });
    box.addEventListener("blur", () => {
      current = -1;
      plot.dispatchEvent(new PointerEvent("pointerleave", { pointerType: "mouse" }));
    });
    new ResizeObserver(() => {
      const now = Math.floor(box.clientWidth);
      if (now && now !== width) { width = now; render(); }
    }).observe(box);
    return (index = -1) => { current = index; if (width) render(); };
  }
  const at = (x, y) => (plot, d) => [plot.scale("x").apply(x(d)), plot.scale("y").apply(y(d))];

  /* Plans by their score, of one run or of two (`run` 0 and 1): `x` is where they are from left to right, `line` those that a line joins, `held` those chosen. */
  function scoreChart({ points, limit, limitText, label, factor }, width, x, line, held = []) {
    const limits = limit === null ? [] : [limit * factor];
    const scaled = (key) => (d) => d[key] * factor;
    const on = { x: "share", y: scaled("score") };
    const colour = (d) => (d.accepted ? "var(--narrow)" : "var(--limit)");
    return Plot.plot({
      width, height: Math.min(340, Math.max(240, width * 0.45)), marginLeft: 48, marginRight: 16, marginTop: 28, marginBottom: 46, style: look,
      x: { labelArrow: "none", labelAnchor: "center", labelOffset: 40, tickFormat: "~%", ticks: width < 500 ? 5 : 10, inset: 8, ...x },
      y: { label, labelArrow: "none", grid: true, nice: true, ticks: 6, inset: 4 },
      marks: [
        Plot.ruleY(limits, { stroke: "var(--limit)", strokeDasharray: "5 4" }),
        Plot.text(limits, { y: (d) => d, text: () => limitText, frameAnchor: "right", textAnchor: "end", dx: -6, dy: -8, fill: "var(--limit)", stroke: "var(--surface)", strokeWidth: 4 }),
        Plot.line(line.points, { ...on, z: (d) => d.run ?? 0, curve: line.curve, stroke: "var(--line)" }),
        Plot.ruleX(points.filter((d) => d.high > d.low), { x: "share", y1: scaled("low"), y2: scaled("high"), stroke: colour, strokeOpacity: 0.6 }),
        Plot.dot(points.filter((d) => d.chosen), { ...on, r: 9, stroke: "var(--narrow)", strokeWidth: 1.5, fill: "var(--surface)" }),
        Plot.dot(held, { ...on, ...lit, symbol: "square", r: 11 }),
        ["circle", "diamond2"].map((symbol, run) => Plot.dot(points.filter((d) => (d.run ?? 0) === run), { ...on, symbol, r: 5, strokeWidth: 1.5, stroke: colour, fill: (d) => (d.accepted ? "var(--narrow)" : "var(--surface)"), className: "points" })),
        Plot.dot(points, Plot.pointer({ ...on, ...lit, r: 9, maxRadius: 60 })),
      ],
    });
  }

  const searchChart = (width) => scoreChart(
    data.search, width, { nice: true, label: data.search.costLabel }, { points: d3.sort(data.search.points, (d) => d.share), curve: "linear" });

  const plan = document.getElementById("plan");

  /* A step: between two plans, the best there is costs as much as the one on the left. */
  const frontierChart = (width) => scoreChart(
    data.frontier, width, { nice: true, label: data.frontier.costLabel }, { points: data.frontier.points.filter((d) => d.unbeaten), curve: "step-after" },
    [data.frontier.points[Number(plan.value)]]);

  function lossChart(width) {
    const { points, layers, narrow, log, label } = data.loss;
    const least = d3.min(points.filter((d) => d.loss > 0), (d) => Math.max(d.low, d.loss / 3));
    const shown = (value) => (log ? Math.max(value, least) : value);
    const spread = narrow.length > 1 ? Math.min(5, (width - 80) / layers / (narrow.length + 1)) : 0;
    const colour = (d) => (d.taken ? "var(--narrow)" : d.narrowed ? "var(--soft)" : "var(--wide)");
    const ends = [least, d3.max(points, (d) => d.high)].map(Math.log10);
    const decades = d3.ticks(Math.floor(ends[0]), Math.ceil(ends[1]), 7).filter(Number.isInteger).map((power) => 10 ** power);
    const nearest = narrow.length > 1 ? Plot.pointer : Plot.pointerX;
    const size = Math.max(2, Math.min(5, (width / layers) * 0.35));
    return Plot.plot({
      width, height: Math.min(320, Math.max(240, width * 0.4)), marginLeft: 56, marginRight: 16, marginTop: 28, marginBottom: 46, style: look,
      x: { domain: [0.5, layers + 0.5], label: "layer, in graph order", labelArrow: "none", labelAnchor: "center", labelOffset: 40, ticks: d3.ticks(1, layers, Math.min(layers, width / 60)).filter(Number.isInteger), tickFormat: "d" },
      y: { type: log ? "log" : "linear", label, labelArrow: "none", grid: true, ticks: log ? decades : 5, tickFormat: log || d3.max(points, (d) => d.high) < 1e-3 ? "~e" : "~g", nice: true },
      marks: narrow.flatMap((precision, index) => {
        const own = points.filter((d) => d.precision === precision);
        const dx = (index - (narrow.length - 1) / 2) * spread * 2;
        return [
          Plot.ruleX(own, { x: "layer", y1: (d) => shown(d.low), y2: (d) => shown(d.high), stroke: colour, strokeOpacity: 0.6, dx }),
          Plot.dot(own, { x: "layer", y: (d) => shown(d.loss), r: size, stroke: colour, strokeWidth: 1.5, fill: (d) => (d.taken ? "var(--narrow)" : "var(--surface)"), symbol: ["circle", "diamond2", "square2", "triangle2"][index % 4], dx, className: "points" }),
        ];
      }).concat(Plot.dot(points, nearest({ x: "layer", y: (d) => shown(d.loss), ...lit, r: size + 4 }))),
    });
  }

  function depthChart(width) {
    const { points, layers, precisions, axis } = data.depth;
    const colour = (d) => (d.precision === precisions[0] ? "var(--wide)" : "var(--narrow)");
    const size = Math.max(2, Math.min(4, (width / layers) * 0.3));
    return Plot.plot({
      width, height: Math.min(320, Math.max(240, width * 0.4)), marginLeft: 56, marginRight: 16, marginTop: 28, marginBottom: 46, style: look,
      x: { domain: [0.5, layers + 0.5], label: `${axis}, in graph order`, labelArrow: "none", labelAnchor: "center", labelOffset: 40, ticks: d3.ticks(1, layers, Math.min(layers, width / 60)).filter(Number.isInteger), tickFormat: "d" },
      y: { label: "SQNR (dB)", labelArrow: "none", grid: true, nice: true },
      marks: [
        Plot.line(points, { x: "layer", y: "accumulated", z: "precision", stroke: colour, strokeWidth: 1.5 }),
        Plot.dot(points, { x: "layer", y: "alone", r: size, stroke: colour, strokeWidth: 1.5, fill: "var(--surface)", className: "points" }),
        Plot.dot(points, Plot.pointer({ x: "layer", y: "alone", ...lit, r: size + 4 })),
      ],
    });
  }

  function bins(tensor) {
    const share = d3.format(".2~%"), near = d3.format(".3~g"), total = d3.sum(tensor.counts);
    return tensor.counts.map((count, index) => {
      const low = tensor.start + index * tensor.width, high = low + tensor.width;
      return { low, high, count, text: [`${near(low)} to ${near(high)}`, `${count.toLocaleString("en")} values, ${share(count / total)}`] };
    }).filter((bin) => bin.count);
  }

  function tensorChart(tensor, width) {
    const ranges = tensor.ranges, filled = bins(tensor);
    const ends = [tensor.min, tensor.max, ...ranges.flatMap((d) => [d.low, d.high])];
    const x = { domain: [d3.min(ends), d3.max(ends)], nice: false };
    const left = 60, rows = 26 * ranges.length, height = 250 + rows;
    const top = d3.max(filled, (d) => d.count);
    /* Below the bins one line a type, in pixels under the axis: they share the scale of the values. */
    const under = (index) => 60 + 26 * index;
    return Plot.plot({
      width, height, marginLeft: left, marginRight: 20, marginTop: 28, marginBottom: 50 + rows, style: look,
      x: { ...x, label: "value", labelArrow: "none", labelAnchor: "center", labelOffset: 40, ticks: width / 90, inset: 6 },
      y: { type: "log", domain: [0.7, Math.max(10, top)], label: "values (log)", labelArrow: "none", grid: true, ticks: 4, tickFormat: "~s" },
      marks: [
        Plot.rectY(filled, { x1: "low", x2: "high", y1: 0.7, y2: "count", fill: "var(--bins)", insetLeft: 0.25, insetRight: 0.25, className: "points" }),
        ranges.map((range, index) => {
          const colour = index ? "var(--narrow)" : "var(--wide)", y = 0.7, dy = under(index);
          return [
            Plot.ruleX([range.low, range.high], { stroke: colour, strokeDasharray: "2 3" }),
            Plot.link([range], { x1: "low", x2: "high", y1: y, y2: y, dy, stroke: colour, strokeWidth: range.used ? 3 : 1.5 }),
            Plot.dot([range.low, range.high], { x: (d) => d, y, dy, symbol: "square2", r: 3, fill: colour }),
            Plot.text([range], { frameAnchor: "bottom-left", textAnchor: "end", text: "type", dx: -12, dy: dy + 1, fill: colour, fontWeight: range.used ? 600 : 400, lineAnchor: "middle" }),
          ];
        }),
        Plot.rectY(filled, Plot.pointerX({ x: (d) => (d.low + d.high) / 2, x1: "low", x2: "high", y1: 0.7, y2: "count", fill: "var(--ink)" })),
      ],
    });
  }

  function tensorFacts(tensor) {
    const near = d3.format(".4~g");
    const rows = tensor.ranges.map((range) => element("tr", null, [
      element("th", range.used ? `${range.type}, in use` : range.type), element("td", `${near(range.low)} to ${near(range.high)}`),
      element("td", range.step), element("td", range.cut),
    ]));
    rows.forEach((row) => row.firstChild.setAttribute("scope", "row"));
    const heads = ["Type", "Range", "Step", "Cut off"].map((text) => element("th", text));
    heads.forEach((head) => head.setAttribute("scope", "col"));
    const table = element("table", null, [element("thead", null, [element("tr", null, heads)]), element("tbody", null, rows)]);
    const read = tensor.readers.length ? ` Read by ${tensor.readers.join(", ")}.` : "";
    const note = element("p", `${tensor.count} values from ${near(tensor.min)} to ${near(tensor.max)}.${read}`);
    note.className = "note";
    note.style.overflowWrap = "anywhere";
    return rows.length ? [note, table] : [note];
  }

  /* What the chosen plan is, what it changes against the shipped one, and the line that writes it. */
  function tellPlan(point) {
    const count = point.changed.toLocaleString("en"), layers = point.changed === 1 ? "layer differs" : "layers differ";
    const changed = point.changed ? `${count} ${layers} from the shipped plan` : "No layer differs from the shipped plan";
    const line = document.getElementById("plan-line"), without = point.chosen ? ["This is the shipped plan"] : ["No single target or budget picks it"];
    document.getElementById("plan-said").textContent = `${[...point.text, `Layers: ${point.precisions}`, ...(point.chosen ? [] : [changed]), ...(point.pick ? [] : without)].join(". ")}.`;
    const details = document.getElementById("plan-changes");
    details.hidden = !point.changed;
    const table = changesTable(point), listed = table.tBodies[0].rows.length;
    details.querySelector("summary").textContent = `${count} ${layers} from the shipped plan${listed < point.changed ? `; the first ${listed.toLocaleString("en")}, frontier.arrow has all` : ""}`;
    details.querySelector("div").replaceChildren(table);
    line.hidden = !point.pick;
    line.querySelector("pre").textContent = point.pick ?? "";
    line.querySelector("[role=status]").textContent = "";
  }

  function changesTable(point) {
    const changes = Object.entries(point.changes).flatMap(([precision, places]) => places.map((place) => [...data.frontier.layers[place], precision]));
    const rows = changes.map(([name, before, after]) => element("tr", null, [element("th", name), element("td", before), element("td", after)]));
    rows.forEach((row) => row.firstChild.setAttribute("scope", "row"));
    const heads = ["Layer", "Shipped", "This plan"].map((text) => element("th", text));
    heads.forEach((head) => head.setAttribute("scope", "col"));
    return element("table", null, [element("thead", null, [element("tr", null, heads)]), element("tbody", null, rows)]);
  }

  /* A page that is not served over HTTPS, or lies in a frame, may only copy what is selected. */
  async function copyLine() {
    const line = document.getElementById("plan-line"), pre = line.querySelector("pre");
    let copied = true;
    try {
      await navigator.clipboard.writeText(pre.textContent);
    } catch {
      getSelection().selectAllChildren(pre);
      copied = document.execCommand("copy");
    }
    line.querySelector("[role=status]").textContent = copied ? "Copied" : "Selected; copy it with the keyboard";
  }

  /* A page may have some of the charts only. */
  chart("search-chart", () => data.search.points, at((d) => d.share, (d) => d.score * data.search.factor), searchChart);
  if (data.depth) chart("depth-chart", () => data.depth.points, at((d) => d.layer, (d) => d.alone), depthChart);
  chart("loss-chart", () => data.loss.points, at((d) => d.layer, (d) => d.loss), lossChart);

  if (plan && data.frontier.points.length) {
    const points = data.frontier.points;
    const choose = (point) => { plan.value = String(points.indexOf(point)); show(); };
    const redraw = chart("frontier-chart", () => points, at((d) => d.share, (d) => d.score * data.frontier.factor), frontierChart, choose);
    const show = () => { redraw(Number(plan.value)); tellPlan(points[Number(plan.value)]); };
    plan.addEventListener("change", show);
    document.querySelector("#plan-line button").addEventListener("click", copyLine);
    tellPlan(points[Number(plan.value)]);
  }

  const select = document.getElementById("tensor");
  if (select) {
    const chosen = () => data.tensors[Number(select.value)];
    const redraw = chart("tensor-chart", () => bins(chosen()), at((d) => (d.low + d.high) / 2, (d) => d.count), (width) => tensorChart(chosen(), width));
    const show = () => { redraw(); document.getElementById("tensor-facts").replaceChildren(...tensorFacts(chosen())); };
    select.addEventListener("change", show);
    show();
  }
})();
