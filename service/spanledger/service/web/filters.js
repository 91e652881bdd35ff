// The bar with the range of time and the filters.

import { BRIEF, ask } from "./api.js";
import { $, h } from "./dom.js";
import { DIMENSIONS, filtered, named } from "./state.js";
import { RANGES } from "./time.js";

/** Fill the bar. `go` goes to a state; `asked` are the parameters of range and filters. */
export function filters(state, go, range) {
  const place = $("filters");
  const focused = document.activeElement?.id;
  const options = Object.entries(RANGES).map(([name, label]) => h("option", { value: name, selected: name === state.range }, label));
  const choose = h("select", { id: "range", onchange: () => go({ ...state, range: choose.value, bucket: "", since: "", until: "" }) }, options);
  const date = (name, label) =>
    h("input", {
      id: name,
      type: "date",
      "aria-label": label,
      value: /^\d{4}-\d{2}-\d{2}$/.test(state[name]) ? state[name] : null,
      onchange: (event) => go({ ...state, [name]: event.target.value }),
    });
  const exact = state.range === "custom" && [state.since, state.until].some((text) => text && !/^\d{4}-\d{2}(-\d{2})?$/.test(text));

  const dimension = h("select", { id: "dimension", "aria-label": "Filter by", onchange: offer }, h("option", { value: "" }, "Add a filter …"), Object.entries(DIMENSIONS).map(([name, label]) => h("option", { value: name }, label)), h("option", { value: "tag" }, "Tag"));
  const values = h("datalist", { id: "values" });
  const value = h("input", { id: "value", list: "values", "aria-label": "Value", autocomplete: "off", hidden: true });
  const add = h("button", { type: "submit", hidden: true }, "Add");

  async function offer() {
    const name = dimension.value;
    value.hidden = add.hidden = !name;
    value.value = "";
    value.placeholder = name === "tag" ? "name=value" : "value";
    value.focus();
    values.replaceChildren();
    if (!name || name === "tag" || name === "trace" || name === "session") return;
    const found = await ask("llm/stats", [...range, ["group_by", name], ["limit", 200], ["sort", "-calls"], ...BRIEF]).catch(() => null);
    if (found && dimension.value === name) values.replaceChildren(...found.groups.map((each) => h("option", { value: each.group[name] })));
  }

  place.replaceChildren(
    h("label", { class: "unseen", for: "range" }, "Range of time"),
    choose,
    ...(state.range === "custom" && !exact ? [date("since", "From"), h("span", {}, "to"), date("until", "To, included")] : []),
    ...(exact ? [h("span", { class: "exact" }, exactly(state))] : []),
    h(
      "ul",
      { class: "chips", "aria-label": "Filters" },
      state.filters.map(([name, text], i) =>
        h(
          "li",
          {},
          h("span", { class: "chip-name" }, DIMENSIONS[name] ?? "Tag"),
          h("span", { class: "chip-value" }, named(text)),
          h("button", { type: "button", "aria-label": `Remove the filter ${DIMENSIONS[name] ?? "Tag"} ${named(text)}`, onclick: () => go({ ...state, filters: state.filters.filter((_, other) => other !== i) }) }, "×"),
        ),
      ),
    ),
    h(
      "form",
      {
        class: "adding",
        onsubmit: (event) => {
          event.preventDefault();
          if (!dimension.value) return;
          const trace = dimension.value === "trace" && { view: "calls", range: "12m", bucket: "", sort: "start_time" };
          go({ ...state, ...trace, filters: filtered(state, dimension.value, trace ? value.value.trim() : value.value) });
        },
      },
      dimension,
      value,
      values,
      add,
    ),
  );
  if (focused) $(focused)?.focus();
}

function exactly({ since, until }) {
  const format = (text) => (text ? new Date(text).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" }) : "now");
  return `${format(since)} – ${format(until)}`;
}
