/** The tree as lines: without a line per action, and with what the reader opened. */

import { describe, expect, it } from "vitest";
import { FlatTree, Openness } from "../src/flat.ts";
import { RunModel } from "../src/model.ts";
import type { GroupRow, Picture, Row } from "../src/protocol.ts";

const group = (key: string, parent: string, n: number, named = false): GroupRow => ({
  key,
  parent,
  label: key,
  n,
  counts: [n],
  queued: 0,
  named,
});
const row = (name: string, id: number, group: string, index: number, kids = 0): Row => ({
  name,
  id,
  parent: "",
  group,
  index,
  label: name,
  phase: 0,
  queued: 0,
  ...(kids ? { kids } : {}),
});

function tree(groups: GroupRow[], rows: Row[]) {
  const model = new RunModel(() => 0);
  const run = {
    run: "r1",
    title: "",
    kind: "cell",
    phase: 3,
    epoch: 0,
    counts: [],
    total: rows.length,
    roots: ["", "a0"],
  };
  model.apply({ kind: "replay", v: 1, seq: 1, now: 0, small: false, run, rows, groups } as Picture, []);
  const openness = new Openness();
  const flat = new FlatTree(model, openness);
  flat.build();
  return { model, openness, flat };
}

const ids = (flat: FlatTree) => Array.from({ length: flat.length }, (_, i) => flat.at(i)?.id);

describe("the tree as lines", () => {
  it("shows a lone action without a line for its group", () => {
    const { flat } = tree([group("g", "a0", 1)], [row("x", 1, "g", 0)]);
    expect(ids(flat)).toEqual(["a:x"]);
  });

  it("opens small groups, closes large ones and gives those a heat strip", () => {
    const { flat } = tree([group("s", "a0", 2), group("l", "a0", 100_000)], [row("x", 1, "s", 0), row("y", 2, "s", 1)]);
    expect(ids(flat)).toEqual(["g:s", "a:x", "a:y", "g:l", "h:l"]);
  });

  it("opens 100,000 members as one stretch, and asks for those on screen", () => {
    const { flat, openness } = tree([group("l", "a0", 100_000)], []);
    openness.set("l", true);
    flat.build();
    expect(flat.length).toBe(100_002);
    expect(flat.at(50_002)).toMatchObject({ kind: "action", group: "l", index: 50_000, row: undefined });
    expect(flat.ranges(50_002, 50_011)).toEqual([["l", 50_000, 50_010]]);
    expect(flat.indexOfMember("l", 99_999)).toBe(100_001);
  });

  it("nests children below their parent, at any place of a stretch", () => {
    const { flat, openness } = tree(
      [group("l", "a0", 50), group("k", "p", 1)],
      [row("p", 5, "l", 20, 1), row("c", 60, "k", 0)],
    );
    openness.set("l", true);
    openness.set("a:p", true);
    flat.build();
    const at = flat.indexOf("a:p");
    expect(at).toBe(22);
    expect(flat.at(at + 1)).toMatchObject({ id: "a:c", depth: 2 });
    expect(flat.at(at + 2)).toMatchObject({ group: "l", index: 21 });
    expect(flat.openParents).toContain("p");
  });
});
