/** The widget's entry: `render` as anywidget calls it. */

import type { Message, Model } from "./protocol.ts";
import "./style/index.css";
import { App } from "./view/app.ts";
import { clusterView } from "./view/clusterview.ts";

/** Milliseconds between two looks for the static snapshot that took the place of a view. */
const LOOK_FOR_ANCHOR = 400;
/** Milliseconds without a place in the page after which a view is given up: its cell was deleted or run again. */
const GIVE_UP = 20 * 60_000;
/** Class of a picture that has its view over it. */
const COVERED = "fnb-covered";
/** What is said below a picture whose view has ended. */
const GONE =
  "The kernel has gone; this is the last that was known. In a new one, %flyte runs lists this run, %flyte show brings it " +
  "back, and %%flyte recover in its cell's first line keeps what was done.";
const CLOSED =
  "The kernel has closed this view; the picture is its last. %flyte runs lists the runs that are kept, and %flyte show " +
  "brings one back.";

interface Context {
  model: Model;
  el: HTMLElement;
}

/**
 * One widget model. A view belongs to a run and not to an output: it stays alive over the static picture of its run, which is
 * what the saved notebook has, wherever that is drawn, redrawn, or found when the page was loaded again.
 */
export default () => {
  const mounts = new Set<Mount>();
  let places: Places | null = null;
  const end = (said: string): void => {
    places?.stop();
    for (const mount of mounts) mount.orphan(said);
  };
  const ofCluster = (model: Model): boolean => Boolean((model.get("first") as { cluster?: boolean } | null)?.cluster);
  const mounted = (model: Model): Mount => {
    const mount = new Mount(new App(model), () => mounts.delete(mount));
    mount.app.gone = () => end(GONE);
    mounts.add(mount);
    return mount;
  };
  return {
    initialize({ model }: { model: Model }): void {
      if (ofCluster(model)) return;
      places = new Places(model, mounts, () => mounted(model));
      // anywidget takes a view's listeners away with the view: so the model listens once, and hands on to the apps.
      const onMessage = (message: Message, buffers: DataView[]): void => {
        for (const mount of mounts) mount.app.receive(message, buffers ?? []);
        if (message.kind === "final") places?.look();
      };
      model.on("msg:custom", onMessage as never);
      // Of a kernel that lives: it keeps the views of its latest runs.
      const lives = (): boolean => ["idle", "busy"].includes(model.widget_manager?.kernel?.status ?? "");
      model.on("comm:close", (() => end(lives() ? CLOSED : GONE)) as never);
    },
    render({ model, el }: Context): () => void {
      if (ofCluster(model)) return clusterView(model, el);
      const mount = mounted(model);
      el.append(mount.app.root);
      mount.app.start();
      return () => mount.leave();
    },
  };
};

/** The static pictures of one run in the page: each gets a view over it. */
class Places {
  private readonly timer = setInterval(() => this.look(), LOOK_FOR_ANCHOR);
  /** A picture that is redrawn gets its view back before it is painted. */
  private readonly observer = new MutationObserver((records) => {
    if (records.some(({ addedNodes }) => [...addedNodes].some(hasAnchor))) this.look();
  });

  constructor(
    private readonly model: Model,
    private readonly mounts: Set<Mount>,
    private readonly mounted: () => Mount,
  ) {
    this.observer.observe(document.body, { childList: true, subtree: true });
    this.look();
  }

  look(): void {
    if (isClosed(this.model)) {
      this.stop();
      for (const mount of [...this.mounts]) mount.yield();
      return;
    }
    const uid = String(this.model.get("uid"));
    for (const anchor of document.querySelectorAll<HTMLElement>(".flyte-nb-static"))
      if (anchor.dataset.flyteView === uid && !anchor.dataset.flyteGone && !anchor.querySelector(":scope > .fnb"))
        this.fill(anchor);
    for (const mount of [...this.mounts]) mount.age();
  }

  private fill(anchor: HTMLElement): void {
    const idle = [...this.mounts].find(({ app }) => !app.root.isConnected);
    if (idle) {
      idle.put(anchor);
      return;
    }
    const made = this.mounted();
    made.put(anchor);
    made.app.start();
  }

  stop(): void {
    clearInterval(this.timer);
    this.observer.disconnect();
  }
}

/** Whether the notebook was closed: opened again in the same page it has other models, to whose views the pictures belong. */
const isClosed = ({ widget_manager: manager }: Model): boolean => Boolean(manager?.context?.isDisposed);

const hasAnchor = (node: Node): boolean =>
  node instanceof HTMLElement &&
  (node.classList.contains("flyte-nb-static") || node.querySelector(".flyte-nb-static") !== null);

/** A view, and its place in the page. */
class Mount {
  private lost = 0;
  private ended = false;

  constructor(
    readonly app: App,
    private readonly done: () => void,
  ) {}

  /** The view's output was removed or replaced: by the static picture, over which it goes on, if a picture comes. */
  leave(): void {
    this.lost = 0;
  }

  /** The kernel let go of the run: whatever static picture is below is all there is. */
  orphan(why: string): void {
    this.app.orphan();
    const anchor = this.app.root.closest<HTMLElement>(".flyte-nb-static");
    if (!anchor) return;
    this.stop();
    anchor.dataset.flyteGone = "1"; // whoever else looks for places leaves it as it is
    anchor.classList.remove(COVERED);
    const said = document.createElement("div");
    said.style.padding = "3px 10px";
    said.textContent = why;
    anchor.append(said);
  }

  /** Show the view over a static picture. */
  put(anchor: HTMLElement): void {
    anchor.classList.add(COVERED);
    anchor.append(this.app.root);
    this.app.remounted();
    // Lab keeps HTML outputs 20 pixels off the right edge; widgets not.
    const host = anchor.closest<HTMLElement>(".jp-RenderedHTMLCommon");
    if (host) host.style.paddingRight = "0";
  }

  /** Leave the place to another, or to the picture. */
  yield(): void {
    this.app.root.parentElement?.classList.remove(COVERED);
    this.stop();
  }

  /** A while has passed; a view without a place for long is given up. */
  age(): void {
    this.lost = this.app.root.isConnected ? 0 : this.lost + LOOK_FOR_ANCHOR;
    if (this.lost > GIVE_UP) this.stop();
  }

  private stop(): void {
    if (this.ended) return;
    this.ended = true;
    this.done();
    this.app.destroy();
  }
}
