/** The recorded stream that Python asserts too: applied message by message it adds up to the run. */

import { describe, expect, it, vi } from "vitest";
import recorded from "../../tests/data/stream.json";
import { FlatTree, Openness } from "../src/flat.ts";
import { RunModel } from "../src/model.ts";
import type { Picture } from "../src/protocol.ts";
import { ErrorsView } from "../src/view/errors.ts";
import { HeaderView } from "../src/view/header.ts";
import { LogTail } from "../src/view/logtail.ts";
import { RowView } from "../src/view/rowview.ts";

interface Stream {
  messages: { content: Picture; buffers: string[] }[];
  expected: {
    counts: number[];
    phases: Record<string, number>;
    groups: Record<string, number>;
    heat: string;
    errors: [number, string][];
    log_lines: number;
    ended: number;
    /** What the printed page says; Python's tests compare the text with it. */
    shown: {
      header: string[];
      /** Depth, mark, call, marks after it, result or counts, time. */
      rows: [number, string, string, string, string, string][];
      errors: [string, string, string, string][];
      log: [string, string][];
    };
  };
}

const stream = recorded as unknown as Stream;
const decode = (text: string): DataView => {
  // An offset that is no multiple of four, as received buffers have.
  const raw = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const padded = new Uint8Array(raw.length + 3);
  padded.set(raw, 3);
  return new DataView(padded.buffer, 3, raw.length);
};
const feed = (model: RunModel, from = 0) =>
  stream.messages.slice(from).map((m) => model.apply(m.content, m.buffers.map(decode)));

describe("the recorded stream", () => {
  it("adds up to the run's rows, groups, phases, errors and log", () => {
    const model = new RunModel(() => 0);
    expect(new Set(feed(model))).toEqual(new Set(["ok"]));
    const { expected } = stream;
    expect(model.header?.counts).toEqual(expected.counts);
    expect(Object.fromEntries([...model.rows.values()].map((row) => [row.name, model.phaseOf(row)]))).toEqual(
      expected.phases,
    );
    expect(Object.fromEntries([...model.groups.values()].map((group) => [group.key, group.n]))).toEqual(
      expected.groups,
    );
    expect(btoa(String.fromCharCode(...(model.phases.get("a0/g:score") ?? [])))).toBe(expected.heat);
    expect(model.errors.map(({ n, text }) => [n, text])).toEqual(expected.errors);
    expect(model.logTotal).toBe(expected.log_lines);
    expect(model.elapsed()).toBe(expected.ended);
  });

  it("is shown with the printed page's columns, words, numbers and order", () => {
    const model = new RunModel(() => 0);
    feed(model);
    const { shown } = stream.expected;
    const none = vi.fn();
    const said = (el: ParentNode, ...of: string[]): string[] =>
      of.map((one) => (el.querySelector(one)?.textContent ?? "").replace(/\s+/g, " ").trim());

    const header = new HeaderView({ toggle: none, command: none, filter: none, compare: none, menu: () => [] });
    header.draw(model, true, new Set());
    const chips = [...header.el.querySelectorAll(".fnb-chip")].map((one) => one.textContent?.trim()).join(", ");
    const [state, run, prompt, title, time] = said(
      header.el,
      ".fnb-word",
      ".fnb-run",
      ".fnb-prompt-number",
      ".fnb-title",
      ".fnb-time",
    );
    expect([state, run, prompt, title, chips, time]).toEqual(shown.header);

    const tree = new FlatTree(model, new Openness());
    tree.build();
    const rows = Array.from({ length: tree.length }, (_, at) => tree.at(at)).flatMap((line) => {
      if (!line || line.kind === "heat") return [];
      const view = new RowView({ toggle: none, select: none, signal: none, tabulate: none });
      view.draw(line, model, line.depth);
      const group = line.kind === "group";
      const word = view.el.querySelector(".fnb-stateword")?.textContent ?? "";
      const tries = view.el.querySelector(".fnb-tries")?.getAttribute("aria-label") ?? "";
      const [label, count, cached, info, took] = said(
        view.el,
        ".fnb-label",
        ".fnb-count",
        ".fnb-cached",
        ".fnb-infotext",
        ".fnb-dur",
      );
      const call = group ? `${label} ${count}` : label;
      return [[line.depth, group ? "" : word, call, [tries, cached].filter(Boolean).join(" · "), info, took]];
    });
    const words: Record<string, string> = { "": "", "✓": "succeeded", "✗": "failed" };
    const [drawn, printed] = [rows, shown.rows.map(([depth, mark, ...rest]) => [depth, words[mark], ...rest])];
    expect(drawn.map((row) => row.slice(0, -1))).toEqual(printed.map((row) => row.slice(0, -1)));
    // Times travel in milliseconds: of two that round differently, neither is wrong.
    for (const [i, row] of drawn.entries())
      expect(Math.abs(parseFloat(String(row.at(-1))) - parseFloat(String(printed[i]?.at(-1))))).toBeLessThan(0.011);

    const errors = new ErrorsView({ openNumber: none, list: none, copy: none });
    errors.draw(model);
    const lines = [...errors.el.querySelectorAll(".fnb-errrow")].map((row) => {
      const [n, text, first, where] = said(
        row,
        ".fnb-errn",
        ".fnb-errfold",
        ".fnb-errfirst .fnb-link",
        ".fnb-errwhere",
      );
      return [n?.replace(" ×", "") || "1", text, first, where?.replace(/^at /, "")];
    });
    expect(lines).toEqual(shown.errors);

    const tail = new LogTail(none, none);
    tail.draw(model, 20);
    const log = [...tail.el.querySelectorAll(".fnb-logline")].map((line) =>
      said(line, ".fnb-loglabel", ".fnb-logtext"),
    );
    // The page cuts long labels in their middle; here they are whole, and the browser cuts them to the room there is.
    const isWhole = (label = "", cut = "") => {
      const [head = "", tail] = cut.split("…");
      return tail === undefined ? label === cut : label.startsWith(head) && label.endsWith(tail);
    };
    expect(log.map(([, text]) => text)).toEqual(shown.log.map(([, text]) => text));
    expect(log.filter(([label], i) => !isWhole(label ?? "", shown.log[i]?.[0]))).toEqual([]);
  });

  it("asks again when a message is missing, and ignores what it has seen", () => {
    const model = new RunModel(() => 0);
    const [first, second, third] = stream.messages;
    expect(model.apply((second as Stream["messages"][0]).content, [])).toBe("gap");
    expect(model.apply((first as Stream["messages"][0]).content, [])).toBe("ok");
    expect(model.apply((third as Stream["messages"][0]).content, [])).toBe("gap");
    feed(model, 1);
    expect(model.apply((second as Stream["messages"][0]).content, [])).toBe("old");
  });
});
