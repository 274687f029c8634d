/** The widget's entry: `render` as anywidget calls it. */

import type { Message, Model } from "./protocol.ts";
import "./style.css";
import { App } from "./view/app.ts";

/** Milliseconds between two looks for the static snapshot that took the place of a view. */
const LOOK_FOR_ANCHOR = 400;
/** Milliseconds without a place in the page after which a view is given up: its cell was deleted or run again. */
const GIVE_UP = 20 * 60_000;

interface Context {
  model: Model;
  el: HTMLElement;
}

export default {
  render({ model, el }: Context): () => void {
    const app = new App(model);
    const onMessage = (message: Message, buffers: DataView[]): void => {
      app.receive(message, buffers ?? []);
      if (app.final) haunt.start();
    };
    const haunt = new Haunt(app, String(model.get("uid")), () => model.off("msg:custom", onMessage as never));
    model.on("msg:custom", onMessage as never);
    model.on("comm:close", (() => app.orphan()) as never);
    el.append(app.root);
    app.start();
    return () => {
      // At its end a run's output becomes static HTML, and this view is removed with the old output. It lives on over the
      // static picture for as long as the page does.
      if (app.final) haunt.start();
      else haunt.stop();
    };
  },
};

/** Keeps a view alive over the static snapshot of its run, wherever that is (re)drawn. */
class Haunt {
  private timer: ReturnType<typeof setInterval> | null = null;
  private lost = 0;
  private ended = false;

  constructor(
    private readonly app: App,
    private readonly uid: string,
    private readonly done: () => void,
  ) {}

  start(): void {
    if (this.timer || this.ended) return;
    this.timer = setInterval(() => this.look(), LOOK_FOR_ANCHOR);
    this.look();
    requestAnimationFrame(() => this.look());
  }

  private look(): void {
    if (this.app.root.isConnected) {
      this.lost = 0;
      return;
    }
    for (const anchor of document.querySelectorAll<HTMLElement>(".flyte-nb-static")) {
      if (anchor.dataset.flyteView !== this.uid || anchor.querySelector(":scope > .fnb")) continue;
      for (const child of anchor.children) (child as HTMLElement).style.display = "none";
      Object.assign(anchor.style, { border: "0", overflow: "visible" });
      anchor.append(this.app.root);
      return;
    }
    this.lost += LOOK_FOR_ANCHOR;
    if (this.lost > GIVE_UP) this.stop();
  }

  stop(): void {
    if (this.ended) return;
    this.ended = true;
    if (this.timer) clearInterval(this.timer);
    this.done();
    this.app.destroy();
  }
}
