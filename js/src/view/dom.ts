/** Build DOM from values. Text becomes text nodes only: no string ever becomes markup. */

export type Child = Node | string | null | undefined | false | Child[];
type Props = Record<string, unknown>;

export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  props: Props | null = null,
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const el = document.createElement(tag);
  if (props) setProps(el, props);
  // Lumino looks for this on the focused element before it looks at its parents: on the root alone, "d d" deletes the cell.
  if (FOCUSABLE.has(tag) || (props && "tabindex" in props)) el.setAttribute("data-lm-suppress-shortcuts", "true");
  append(el, children);
  return el;
}

const FOCUSABLE = new Set(["button", "input", "select", "summary", "iframe"]);

function setProps(el: HTMLElement, props: Props): void {
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on") && typeof value === "function") el.addEventListener(key.slice(2), value as EventListener);
    else if (key === "class") el.className = String(value);
    else if (key === "style") Object.assign(el.style, value);
    else el.setAttribute(key, value === true ? "" : String(value));
  }
}

export function append(el: Element, children: Child[]): void {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) append(el, child);
    else el.append(child);
  }
}

/** Set text only where it differs: an unchanged node costs no layout. */
export function setText(el: Element, text: string): void {
  if (el.textContent !== text) el.textContent = text;
}

/** The last characters of a label are never cut: in them calls of one task differ, and addresses. */
const LABEL_END = 12;

/** Set a label, which is cut in its middle where there is no room for it (`.fnb-cut`). */
export function setLabel(el: Element, label: string): void {
  if (el.textContent !== label)
    el.replaceChildren(h("span", {}, label.slice(0, -LABEL_END)), h("span", {}, label.slice(-LABEL_END)));
}

const FOCUS = "button, input, select, summary, a[href], [tabindex]";
/** What a control is called, numbers aside: they change while it stays the same control. */
const nameOf = (el: Element): string =>
  `${el.tagName} ${(el.getAttribute("aria-label") ?? el.textContent ?? "").replace(/[\d,.]+/g, "#")}`;

/** Redraw what is inside `el`; the focus stays on the control of the same name, or goes to `fallback`. */
export function keepFocus(el: HTMLElement, redraw: () => void, fallback?: () => HTMLElement | null): void {
  const focused = document.activeElement;
  if (!focused || focused === el || !el.contains(focused)) {
    redraw();
    return;
  }
  const name = nameOf(focused);
  const named = (): HTMLElement[] => [...el.querySelectorAll<HTMLElement>(FOCUS)].filter((one) => nameOf(one) === name);
  const nth = named().indexOf(focused as HTMLElement);
  redraw();
  const again = named()[nth] ?? fallback?.();
  if (again && document.activeElement !== again) again.focus({ preventScroll: true });
}

export function setAttr(el: Element, name: string, value: string | null): void {
  if (value === null) {
    if (el.hasAttribute(name)) el.removeAttribute(name);
  } else if (el.getAttribute(name) !== value) el.setAttribute(name, value);
}

export function show(el: HTMLElement, visible: boolean): void {
  if (el.hidden === visible) el.hidden = !visible;
}

/** Give the reader a file. */
export function save(name: string, parts: BlobPart[]): void {
  const link = h("a", { href: URL.createObjectURL(new Blob(parts, { type: "text/plain" })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag: string, attributes: Record<string, string | number>, ...children: SVGElement[]): SVGElement {
  const el = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) el.setAttribute(key, String(value));
  el.append(...children);
  return el;
}

/** Custom properties of the theme as colours that a canvas understands. `el` must be in the page. */
export function colorsOf(el: Element, names: string[]): string[] {
  const probe = document.createElement("i");
  probe.hidden = true;
  // A canvas has its own colours where the system forces others: they carry the states.
  probe.style.setProperty("forced-color-adjust", "none");
  el.append(probe);
  const style = getComputedStyle(probe);
  const found = names.map((name) => {
    probe.style.color = `var(${name})`;
    return style.color || "#888";
  });
  probe.remove();
  return found;
}
