// Charts on uPlot. Each has a table behind it with the same figures, and can be walked with the arrow keys.

import { h, say, table } from "./dom.js";

/* global uPlot */
const HEIGHT = 260;
const WHOLE = Array.from({ length: 16 }, (_, i) => [1, 2, 5].map((step) => step * 10 ** i)).flat();

/** A colour of the style sheet as the canvas takes it. */
function colour(name) {
  const probe = document.body.appendChild(h("span", { style: { color: `var(${name})` } }));
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

/**
 * A chart of values by bucket.
 *
 * wanted: {
 *   label: what the chart shows,
 *   buckets: [{label, long}],
 *   series: [{name, colour, values: [number or null], texts: [what to read]}],
 *   stacked: bars on top of each other, else lines,
 *   total: bucket number -> text of its total,
 *   axis: number -> text,
 *   legend: element below the plot,
 *   whole: the axis has whole numbers only,
 *   pick: (bucket number, series number or null) -> nothing; opens what is beneath,
 *   href: (bucket number, series number or null) -> address of the same,
 * }
 */
export function chart(wanted) {
  const { buckets, series, stacked } = wanted;
  const plot = h("div", {
    class: "plot",
    tabindex: "0",
    role: "application",
    "aria-roledescription": "chart",
    "aria-label": `${wanted.label}. Arrow keys read the bars${wanted.pick ? ", Enter opens their calls" : ""}. A table with the same figures follows.`,
    "data-focus": `chart ${wanted.label}`,
    style: { "min-height": `${wanted.height ?? HEIGHT}px` }, // drawn later; until then nothing below moves
  });
  const tip = h("div", { class: "tip", "aria-hidden": "true", hidden: true });
  const sums = stacked ? cumulative(series, buckets.length) : null;
  let drawn = null;
  let at = -1;

  function read(bucket) {
    const lines = series
      .map((each, i) => ({ each, i }))
      .filter(({ each }) => each.values[bucket])
      .reverse();
    return { title: buckets[bucket].long, total: wanted.total?.(bucket), lines };
  }

  function point(bucket, which) {
    const found = read(bucket);
    tip.replaceChildren(
      h("p", { class: "tip-title" }, found.title, found.total && h("strong", {}, found.total)),
      ...found.lines.map(({ each, i }) =>
        h("p", { class: i === which ? "tip-line here" : "tip-line" }, h("span", { class: `swatch ${each.colour}` }), h("span", {}, each.name), h("span", { class: "tip-value" }, each.texts[bucket])),
      ),
    );
    tip.hidden = false;
    const over = drawn.over.getBoundingClientRect();
    const x = drawn.valToPos(bucket, "x");
    const width = tip.offsetWidth;
    const left = x + 16 + width > over.width ? Math.max(x - width - 16, 4 - drawn.over.offsetLeft) : x + 16;
    tip.style.setProperty("transform", `translate(${Math.round(left)}px, 6px)`);
    return found;
  }

  function under(u) {
    const bucket = u.posToIdx(u.cursor.left);
    if (!stacked || u.cursor.top < 0) return { bucket, which: null };
    const value = u.posToVal(u.cursor.top, "y");
    const which = series.findIndex((each, i) => each.values[bucket] && sums[i][bucket] >= value && sums[i][bucket] - each.values[bucket] <= value);
    return { bucket, which: which < 0 ? null : which };
  }

  function draw() {
    drawn?.destroy();
    const width = plot.clientWidth || 600;
    const [grid, text, ground] = [colour("--line"), colour("--soft"), colour("--card")];
    const colours = series.map((each) => colour(`--${each.colour}`));
    const bars = uPlot.paths.bars({ size: [0.76, 56], radius: 0 });
    const order = stacked ? series.map((_, i) => series.length - 1 - i) : series.map((_, i) => i);
    const many = Math.max(1, Math.ceil(buckets.length / Math.max(2, Math.floor((width - 64) / 92))));
    const lines = order.map((i) => ({
      label: series[i].name,
      stroke: stacked ? ground : colours[i],
      fill: stacked ? colours[i] : undefined,
      width: stacked ? 1 : 2,
      paths: stacked ? bars : uPlot.paths.linear(),
      points: stacked ? { show: false } : { show: true, size: 6, filter: alone },
      spanGaps: false,
    }));
    const axis = { stroke: text, font: "12px system-ui, sans-serif", ticks: { show: false } };
    drawn = new uPlot(
      {
        width,
        height: wanted.height ?? HEIGHT,
        padding: [10, (buckets.length - 1) % many ? 8 : 30, 0, 0], // room for half of the last label
        legend: { show: false },
        cursor: { y: false, x: !stacked, points: { show: !stacked }, drag: { setScale: false, x: false, y: false } },
        scales: { x: { time: false, range: () => [-0.6, buckets.length - 0.4] }, y: { range: (_u, _min, max) => [0, max > 0 ? max * 1.06 : 1] } },
        series: [{}, ...lines],
        axes: [
          {
            ...axis,
            grid: { show: false },
            splits: () => buckets.map((_, i) => i).filter((i) => i % many === 0),
            values: (_u, splits) => splits.map((i) => buckets[i]?.label ?? ""),
            size: 34,
          },
          { ...axis, grid: { stroke: grid, width: 1 }, ...(wanted.whole && { incrs: WHOLE }), values: (_u, splits) => splits.map(wanted.axis), size: 64 },
        ],
        hooks: {
          setCursor: [
            (u) => {
              if (u.cursor.left < 0) {
                if (document.activeElement !== plot) tip.hidden = true;
                return;
              }
              const { bucket, which } = under(u);
              if (buckets[bucket]) point((at = bucket), which);
            },
          ],
        },
      },
      [buckets.map((_, i) => i), ...order.map((i) => (stacked ? sums[i] : series[i].values))],
      plot,
    );
    drawn.over.append(tip);
    if (wanted.pick) {
      drawn.over.classList.add("picks");
      drawn.over.addEventListener("click", () => {
        const { bucket, which } = under(drawn);
        if (buckets[bucket]) wanted.pick(bucket, which);
      });
    }
  }

  function walk(event) {
    const last = buckets.length - 1;
    const to = { ArrowRight: Math.min(at + 1, last), ArrowLeft: at < 0 ? last : Math.max(at - 1, 0), Home: 0, End: last }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      at = to;
      const { title, total, lines } = point(at, null);
      drawn.setCursor({ left: drawn.valToPos(at, "x"), top: 0 }, false);
      say(`${title}: ${total ?? ""} ${lines.map(({ each }) => `${each.name} ${each.texts[at]}`).join(", ")}`);
    } else if (event.key === "Enter" && at >= 0 && wanted.pick) wanted.pick(at, null);
    else if (event.key === "Escape") tip.hidden = true;
  }

  plot.addEventListener("keydown", walk);
  plot.addEventListener("blur", () => (tip.hidden = true));
  const resized = new ResizeObserver(() => plot.isConnected && plot.clientWidth && (drawn && Math.abs(drawn.width - plot.clientWidth) < 2 ? null : draw()));
  resized.observe(plot);
  document.addEventListener("themed", draw);
  const whole = h("div", { class: "chart" }, plot, wanted.legend, behind(wanted));
  whole.leave = () => {
    resized.disconnect();
    document.removeEventListener("themed", draw);
    drawn?.destroy();
  };
  return whole;
}

/** The points of a line that no line goes through: those without neighbours. */
const alone = (u, number) => u.data[number].flatMap((value, i, all) => (value !== null && (all[i - 1] ?? null) === null && (all[i + 1] ?? null) === null ? [i] : []));

function cumulative(series, length) {
  const running = new Array(length).fill(0);
  return series.map((each) => each.values.map((value, i) => (value ? (running[i] += value) : null)));
}

/** The table with the figures of a chart. */
function behind({ label, buckets, series, total, href }) {
  const link = (text, row, i) => (href && text ? h("a", { href: href(row, i) }, text) : (text ?? ""));
  const columns = [
    { head: "Time", of: (row) => link(buckets[row].long, row, null) },
    ...(total ? [{ head: "Total", number: true, of: (row) => total(row) }] : []),
    ...series.map((each, i) => ({ head: each.name, number: true, of: (row) => (each.values[row] ? link(each.texts[row], row, i) : "") })),
  ];
  const details = h("details", { class: "behind", "data-keep": label }, h("summary", {}, "As a table"));
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) details.append(table(label, columns, buckets.map((_, i) => buckets.length - 1 - i)));
  });
  return details;
}
