/** The recorded stream that Python asserts too: applied message by message it adds up to the run. */

import { describe, expect, it } from "vitest";
import recorded from "../../tests/data/stream.json";
import { RunModel } from "../src/model.ts";
import type { Picture } from "../src/protocol.ts";

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
