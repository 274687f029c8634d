/** Terminal colours in log lines, as spans with classes. Nothing else of a terminal's language is obeyed. */

export interface Span {
  text: string;
  /** CSS class names: "fg1", "bg4", "bold", ... */
  classes: string;
  /** A 24-bit or 256-palette colour, as CSS. */
  color?: string | undefined;
}

interface Style {
  fg: string;
  bg: string;
  color: string | undefined;
  flags: Set<string>;
}

const FLAGS: Record<number, string> = { 1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "inverse", 9: "strike" };
const OFF: Record<number, string[]> = {
  22: ["bold", "dim"],
  23: ["italic"],
  24: ["underline"],
  27: ["inverse"],
  29: ["strike"],
};
const ESCAPE =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences, of 7 and of 8 bits, are what this looks for.
  /(?:\x1b\[|\x9b)([0-9;:]*)m|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?|\x1b[ -/]+[0-~]|\x1b[0-Z\\`-~]/g;
const CONTROL =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: controls, C1 too, and what changes the direction of text.
  /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufff9-\ufffb]/g;
// biome-ignore lint/suspicious/noControlCharactersInRegex: the same.
const ESCAPED = /[\x1b\x90-\x9f]/;
/** Longest line that is parsed, in characters. */
const MAX = 4_000;

/** A line's text as a reader sees it. */
export const plain = (line: string): string => line.replace(ESCAPE, "").replace(CONTROL, "");

export function parseAnsi(line: string): Span[] {
  let text = line.slice(0, MAX);
  // A progress bar redraws its line: keep what a terminal would show.
  const carriage = text.replace(/(?<!\r)\r+$/, "").lastIndexOf("\r");
  if (carriage >= 0) text = text.slice(carriage + 1);
  if (!ESCAPED.test(text)) return [{ text: text.replace(CONTROL, ""), classes: "" }];
  const out: Span[] = [];
  const style: Style = { fg: "", bg: "", color: undefined, flags: new Set() };
  let at = 0;
  const emit = (part: string): void => {
    const clean = part.replace(CONTROL, "");
    if (!clean) return;
    const classes = [style.fg, style.bg, ...style.flags].filter(Boolean).join(" ");
    out.push({ text: clean, classes, ...(style.color ? { color: style.color } : {}) });
  };
  for (const match of text.matchAll(ESCAPE)) {
    emit(text.slice(at, match.index));
    at = match.index + match[0].length;
    if (match[1] !== undefined) apply(style, match[1].split(/[;:]/).map(Number));
  }
  emit(text.slice(at));
  return out;
}

function apply(style: Style, codes: number[]): void {
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i] ?? 0;
    const flag = FLAGS[code];
    if (code === 0) Object.assign(style, { fg: "", bg: "", color: undefined, flags: new Set() });
    else if (flag) style.flags.add(flag);
    else if (OFF[code]) for (const name of OFF[code]) style.flags.delete(name);
    else if (code >= 30 && code <= 37) Object.assign(style, { fg: `fg${code - 30}`, color: undefined });
    else if (code >= 90 && code <= 97) Object.assign(style, { fg: `fg${code - 82}`, color: undefined });
    else if (code === 39) Object.assign(style, { fg: "", color: undefined });
    else if (code >= 40 && code <= 47) style.bg = `bg${code - 40}`;
    else if (code >= 100 && code <= 107) style.bg = `bg${code - 92}`;
    else if (code === 49) style.bg = "";
    else if (code === 38 || code === 48) {
      const [used, color] = extended(codes, i + 1);
      if (code === 38) Object.assign(style, { fg: "", color });
      i += used;
    }
  }
}

function extended(codes: number[], at: number): [number, string | undefined] {
  if (codes[at] === 5) return [2, palette(codes[at + 1] ?? 0)];
  if (codes[at] === 2) {
    const [r, g, b] = [codes[at + 1], codes[at + 2], codes[at + 3]].map((n) =>
      Math.min(255, Math.max(0, Number(n) || 0)),
    );
    return [4, `rgb(${r},${g},${b})`];
  }
  return [0, undefined];
}

function palette(n: number): string | undefined {
  if (n < 16) return undefined;
  if (n >= 232) {
    const grey = 8 + (n - 232) * 10;
    return `rgb(${grey},${grey},${grey})`;
  }
  const level = (v: number): number => (v ? 55 + v * 40 : 0);
  const c = n - 16;
  return `rgb(${level(Math.floor(c / 36))},${level(Math.floor(c / 6) % 6)},${level(c % 6)})`;
}
