// Elements, made without markup in strings: nothing that the ledger holds is ever read as HTML.

/** An element. Properties that start with `on` are listeners; `null` and `false` leave an attribute out. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, to] of Object.entries(value)) element.style.setProperty(key, to);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const $ = (id) => document.getElementById(id);

/** Put `make()` into `place` where `data` is other than what is shown there; focus and open tables stay. */
export function show(place, data, make) {
  const seen = JSON.stringify(data);
  if (place.seen === seen) return;
  place.seen = seen;
  const open = [...place.querySelectorAll("details[open][data-keep]")].map((each) => each.dataset.keep);
  const focused = place.contains(document.activeElement) && document.activeElement.dataset.focus;
  place.dispatchEvent(new CustomEvent("gone"));
  place.replaceChildren(...[make()].flat());
  for (const each of place.querySelectorAll("details[data-keep]")) each.open = open.includes(each.dataset.keep);
  if (focused) [...place.querySelectorAll("[data-focus]")].find((each) => each.dataset.focus === focused)?.focus();
}

/** Tell those who listen to the page. */
export function say(text) {
  $("say").textContent = text;
}

/**
 * A table. Columns are {head, number, minor, least, sort, of: row -> content}; the first cell of a row names it.
 * `minor` ones are left out on a small screen, `least` ones on a phone. `sort` is {now: "descending", "ascending" or
 * null, by: what sorts by it}.
 */
export function table(caption, columns, rows, foot) {
  const kind = (column) => [column.number && "number", column.minor && "minor", column.least && "least"].filter(Boolean).join(" ") || null;
  const cells = (row, of) =>
    columns.map((column, i) =>
      h(i ? "td" : "th", i ? { class: kind(column) } : { scope: "row", class: kind(column) }, column[of](row) ?? ""),
    );
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      {},
      h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, columns.map((each) => h("th", { scope: "col", class: kind(each), "aria-sort": each.sort?.now }, heading(each))))),
      h("tbody", {}, rows.map((row) => h("tr", {}, cells(row, "of")))),
      foot && h("tfoot", {}, h("tr", {}, cells(foot, "of"))),
    ),
  );
}

const heading = ({ head, sort }) => (sort ? h("button", { type: "button", class: "sort", "data-focus": `sort ${head}`, onclick: sort.by }, head) : head);

export function copying(text, label = "Copy") {
  const button = h(
    "button",
    {
      type: "button",
      class: "copy",
      onclick: async () => {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
        say("Copied");
        setTimeout(() => (button.textContent = label), 1500);
      },
    },
    label,
  );
  return button;
}
