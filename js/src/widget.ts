/** The widget's entry: `render` as anywidget calls it. */

import type { Message, Model } from "./protocol.ts";
import "./style/index.css";
import { App } from "./view/app.ts";

/** Milliseconds between two looks for the static snapshot that took the place of a view. */
const LOOK_FOR_ANCHOR = 400;
/** Milliseconds without a place in the page after which a view is given up: its cell was deleted or run again. */
const GIVE_UP = 20 * 60_000;

interface Context {
  model: Model;
  el: HTMLElement;
}

/**
 * One widget model. anywidget takes a view's listeners away with the view, but a view lives on after its output was replaced
 * by the static snapshot: so the model listens once, and hands on to the apps.
 */
export default () => {
  const mounts = new Set<Mount>();
  return {
    initialize({ model }: { model: Model }): void {
      const onMessage = (message: Message, buffers: DataView[]): void => {
        for (const mount of mounts) mount.receive(message, buffers ?? []);
      };
      model.on("msg:custom", onMessage as never);
      model.on("comm:close", (() => {
        for (const mount of mounts) mount.orphan();
      }) as never);
    },
    render({ model, el }: Context): () => void {
      const mount = new Mount(new App(model), String(model.get("uid")), () => mounts.delete(mount));
      mounts.add(mount);
      el.append(mount.app.root);
      mount.app.start();
      return () => mount.leave();
    },
  };
};

/** The place of a view in the page: it stays alive over the static snapshot of its run, wherever that is (re)drawn. */
class Mount {
  private timer: ReturnType<typeof setInterval> | null = null;
  private lost = 0;
  private ended = false;

  constructor(
    readonly app: App,
    private readonly uid: string,
    private readonly done: () => void,
  ) {}

  receive(message: Message, buffers: DataView[]): void {
    this.app.receive(message, buffers);
    if (this.app.final) this.start();
  }

  /** The view's output was removed or replaced. */
  leave(): void {
    // At its end a run's output becomes static HTML, and this view is removed with the old output. It lives on over the
    // static picture for as long as the page does.
    if (this.app.final) this.start();
    else this.stop();
  }

  /** The kernel let go of the run: whatever static picture is below is all there is. */
  orphan(): void {
    this.app.orphan();
    const anchor = this.app.root.closest<HTMLElement>(".flyte-nb-static");
    if (!anchor) return;
    this.stop();
    for (const child of anchor.children) (child as HTMLElement).style.display = "";
  }

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
      this.app.remounted();
      // Lab keeps HTML outputs 20 pixels off the right edge; widgets not.
      const host = anchor.closest<HTMLElement>(".jp-RenderedHTMLCommon");
      if (host) host.style.paddingRight = "0";
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
