/** Places in cells: "Cell In[5]:16" as a button that goes to that cell and line, in JupyterLab and Notebook 7. */

import { type Child, h } from "./dom.ts";

const PLACE = /(?:Cell )?In ?\[(\d+)\](?::|, line )(\d+)/;
const NOTEBOOK = ".jp-Notebook";
/** Milliseconds within which an editor that was off screen is drawn, and for which its line is marked. */
const DRAWN_WITHIN = 1_000;
const MARKED = 1_600;

/** What is used of CodeMirror's view. */
interface Editor {
  state: { doc: { lines: number; line(n: number): { from: number; text: string } } };
  dispatch(change: { selection: { anchor: number }; scrollIntoView: boolean }): void;
  domAtPos(at: number): { node: Node };
  focus(): void;
}

/** A text, with the place that it names as a button; as it is where the page is no notebook. */
export function placed(text: string): Child {
  const found = PLACE.exec(text);
  if (!found || !document.querySelector(NOTEBOOK)) return text;
  const [whole, prompt, line] = found as unknown as [string, string, string];
  const go = (event: Event): void => {
    event.stopPropagation();
    const from = event.currentTarget as HTMLElement;
    if (!goTo(from, Number(prompt), Number(line)))
      from.dispatchEvent(
        new CustomEvent("fnb-say", { bubbles: true, detail: `In [${prompt}] has been run again since.` }),
      );
  };
  const title = `Go to line ${line} of In [${prompt}]`;
  const button = h("button", { class: "fnb-link fnb-place", type: "button", title, onclick: go }, whole);
  return [text.slice(0, found.index), button, text.slice(found.index + whole.length)];
}

/** Scroll to a line of the cell with a prompt; false if there is none. `from`: in whose notebook it is. */
function goTo(from: Element, prompt: number, line: number): boolean {
  const own = from.closest(NOTEBOOK);
  const cell = (own ? [own] : [...document.querySelectorAll(NOTEBOOK)]).map((one) => cellOf(one, prompt)).find(Boolean);
  if (!cell) return false;
  cell.scrollIntoView({ block: "center" });
  const until = performance.now() + DRAWN_WITHIN;
  const mark = (): void => {
    if (!markLine(cell, line) && performance.now() < until) requestAnimationFrame(mark);
  };
  mark();
  return true;
}

function cellOf(notebook: Element, prompt: number): Element | undefined {
  for (const el of notebook.querySelectorAll(".jp-CodeCell .jp-InputPrompt"))
    if (el.textContent?.trim() === `[${prompt}]:`) return el.closest(".jp-CodeCell") ?? undefined;
  return undefined;
}

/** Put the cursor on a line and mark it; false while the cell has no editor. */
function markLine(cell: Element, line: number): boolean {
  const content = cell.querySelector(".cm-content");
  if (!content) return false;
  const editor = editorOf(content);
  const lines = [...content.querySelectorAll(".cm-line")];
  let el: Element | null | undefined = lines[line - 1 + blanks(lines.length, (n) => lines[n]?.textContent ?? "")];
  if (editor) {
    const { doc } = editor.state;
    const at = line + blanks(doc.lines, (n) => doc.line(n + 1).text);
    const anchor = doc.line(Math.max(1, Math.min(at, doc.lines))).from;
    editor.focus();
    editor.dispatch({ selection: { anchor }, scrollIntoView: true });
    const { node } = editor.domAtPos(anchor);
    el = (node instanceof Element ? node : node.parentElement)?.closest(".cm-line") ?? el;
  }
  el?.scrollIntoView({ block: "nearest" });
  el?.classList.add("fnb-marked");
  setTimeout(() => el?.classList.remove("fnb-marked"), MARKED);
  return true;
}

/** Lines at the top with nothing in them: IPython, which counts the lines of a cell, takes them off. */
function blanks(n: number, textOf: (line: number) => string): number {
  let blank = 0;
  while (blank < n && !textOf(blank).trim()) blank++;
  return blank < n ? blank : 0;
}

/** The view that CodeMirror keeps with its element, under a name that depends on its version. */
function editorOf(content: Element): Editor | undefined {
  // biome-ignore lint/suspicious/noExplicitAny: not ours
  const { cmTile, cmView } = content as any;
  const of = cmTile ?? cmView;
  const found = of?.view ?? of?.root?.view ?? of?.rootView?.view;
  return typeof found?.dispatch === "function" ? found : undefined;
}
