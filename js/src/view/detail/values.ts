/** Values in the panel: inputs and outputs as text, table, picture or HTML. */

import type { Table, Value } from "../../protocol.ts";
import { type Child, h } from "../dom.ts";
import { htmlFrame, pairs, section } from "./section.ts";

export function inputsSection(inputs: ({ name: string } & Value)[] | undefined): Child {
  if (!inputs?.length) return null;
  const entries = inputs.map((one): [string, Child] => [one.name, drawValue(one)]);
  return section("Inputs", pairs("fnb-values", entries));
}

export const outputSection = (output: Value | undefined): Child => output && section("Output", drawValue(output));

/** Lines and characters of an output that does not push its inputs away. */
const SMALL_LINES = 4;
const SMALL_TEXT = 300;

/** Whether an output takes a few lines. */
export const isSmall = (output: Value | undefined): boolean =>
  output !== undefined &&
  !output.table &&
  !output.png &&
  !output.html &&
  output.text.length <= SMALL_TEXT &&
  output.text.split("\n").length <= SMALL_LINES;

function drawValue(value: Value): Child {
  if (value.table) return drawTable(value.table, value.text);
  if (value.png)
    return h("img", { class: "fnb-img", alt: value.text || "image", src: `data:image/png;base64,${value.png}` });
  if (value.html) return htmlFrame(value.html, value.text || "value");
  return h("pre", { class: "fnb-pre" }, value.text);
}

const NUMBER = /^[-+]?[\d,.]+(e[-+]?\d+)?$|^nan$|^inf$/i;

/** A data frame's head and tail. */
function drawTable(table: Table, label: string): HTMLElement {
  const numeric = table.head.map((_, column) =>
    table.rows.every((row) => NUMBER.test(row[column] ?? "") || row[column] === "…"),
  );
  const name = (text: string, column: number): HTMLElement =>
    h(text ? "th" : "td", { scope: text ? "col" : null, class: numeric[column] ? "fnb-num" : null, title: text }, text);
  const cell = (text: string, column: number): HTMLElement =>
    table.index && column === 0
      ? h("th", { scope: "row", title: text }, text)
      : h("td", { class: numeric[column] ? "fnb-num" : null, title: text.length > 24 ? text : null }, text);
  return h(
    "div",
    { class: "fnb-tablebox", tabindex: 0, role: "group", "aria-label": label || "table" },
    h(
      "table",
      { class: "fnb-table" },
      h("thead", {}, h("tr", {}, table.head.map(name))),
      h(
        "tbody",
        {},
        table.rows.map((row) => h("tr", {}, row.map(cell))),
      ),
    ),
    h("div", { class: "fnb-muted fnb-tablesaid" }, table.said),
  );
}
