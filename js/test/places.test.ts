/** A view's place in the page: over the static picture of its run, wherever and whenever that is drawn. */

import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Model } from "../src/protocol.ts";
import widget from "../src/widget.ts";

type Listener = (...args: unknown[]) => void;

class FakeModel {
  sent: { op: string }[] = [];
  listeners = new Map<string, Listener>();
  widget_manager = { context: { isDisposed: false } };
  get(key: string) {
    return key === "uid" ? "u1" : null;
  }
  send(content: { op: string }) {
    this.sent.push(content);
  }
  on(name: string, listener: Listener) {
    this.listeners.set(name, listener);
  }
  off() {}
}

const settle = () => new Promise((done) => setTimeout(done, 30));
const picture = (uid = "u1") => {
  const el = document.createElement("div");
  el.className = "flyte-nb-static";
  el.dataset.flyteView = uid;
  el.append(Object.assign(document.createElement("p"), { textContent: "7 done" }));
  return el;
};
const views = () => [...document.querySelectorAll<HTMLElement>(".flyte-nb-static > .fnb")];

describe("places", () => {
  let model: FakeModel;
  beforeEach(() => {
    document.body.replaceChildren();
    model = new FakeModel();
  });
  afterEach(() => model.listeners.get("comm:close")?.());
  const made = () => {
    const module = widget();
    module.initialize({ model: model as unknown as Model });
    return module;
  };

  it("brings a picture of a loaded page to life, and no other run's", async () => {
    document.body.append(picture(), picture("other"));
    made();
    expect(views()).toHaveLength(1);
    expect([...document.querySelectorAll(".fnb-covered")]).toEqual([views()[0]?.parentElement]);
    expect(model.sent.map(({ op }) => op)).toEqual(["ready"]);
  });

  it("leaves the picture to the models of a notebook that was closed and opened again", async () => {
    document.body.append(picture());
    made();
    const [old] = views();
    model.widget_manager.context.isDisposed = true;
    document.body.replaceChildren();
    model = new FakeModel();
    made();
    document.body.append(picture());
    await settle();
    expect(views()).toHaveLength(1);
    expect(views()[0]).not.toBe(old);
    expect(model.sent.map(({ op }) => op)).toEqual(["ready"]);
  });

  it("keeps one view over a picture that is drawn again, and makes one for each further picture", async () => {
    document.body.append(picture());
    made();
    const [view] = views();
    document.body.replaceChildren(picture());
    await settle();
    expect(views()).toEqual([view]);
    document.body.append(picture());
    await settle();
    expect(views()).toHaveLength(2);
  });

  it("moves the view of a live output over the picture that takes its place", async () => {
    const module = made();
    const output = document.createElement("div");
    document.body.append(output);
    const leave = module.render({ model: model as unknown as Model, el: output });
    const view = output.firstChild;
    output.replaceChildren();
    leave();
    document.body.append(picture());
    await settle();
    expect(views()).toEqual([view]);
  });

  it("shows the picture again when the kernel has gone, and what to type", async () => {
    document.body.append(picture());
    made();
    model.listeners.get("comm:close")?.();
    expect(views()).toHaveLength(0);
    expect(document.body.textContent).toContain("The kernel has gone");
    expect(document.querySelector(".flyte-nb-static")?.className).toBe("flyte-nb-static");
    await settle();
    expect(views()).toHaveLength(0);
  });

  it("says of a view that a living kernel has closed how to bring it back", () => {
    document.body.append(picture());
    Object.assign(model, { widget_manager: { kernel: { status: "busy" } } });
    made();
    model.listeners.get("comm:close")?.();
    expect(document.querySelector(".flyte-nb-static")?.className).toBe("flyte-nb-static");
    expect(document.body.textContent).toContain("%flyte show brings one back");
    expect(document.body.textContent).not.toContain("gone");
  });

  it("keeps the text that is selected in a view when its picture is drawn again", async () => {
    document.body.append(picture());
    made();
    const text = views()[0]?.querySelector(".fnb-title");
    text?.append("a title");
    getSelection()?.selectAllChildren(text as Node);
    await settle();
    document.body.replaceChildren(picture());
    getSelection()?.removeAllRanges(); // as browsers do when what is selected leaves the page
    await settle();
    expect(String(getSelection())).toBe("a title");
    getSelection()?.removeAllRanges();
    await settle();
    document.body.replaceChildren(picture());
    await settle();
    expect(String(getSelection())).toBe("");
  });
});
