/** The cluster in an output of its own: `%flyte cluster`. */

import type { Message, Model } from "../protocol.ts";
import { Transport } from "../transport.ts";
import { type ClusterNow, ClusterStrip } from "./cluster.ts";
import { h } from "./dom.ts";

/** Show the workers in an element; returns what ends it. */
export function clusterView(model: Model, el: HTMLElement): () => void {
  const transport = new Transport(model);
  const strip = new ClusterStrip({
    look: async () => (await transport.request("cluster")).reply as unknown as ClusterNow,
    open: null,
    run: () => "",
    close: null,
  });
  const onMessage = (message: Message, buffers: DataView[]): void => {
    transport.take(message, buffers ?? []);
  };
  const lost = (): void => {
    transport.close();
    strip.lost();
  };
  model.on("msg:custom", onMessage as never);
  model.on("comm:close", lost as never);
  const props = { class: "fnb", "data-lm-suppress-shortcuts": "true", "data-testid": "fnb-cluster-view" };
  el.append(h("div", props, strip.el));
  strip.start();
  return () => {
    model.off("msg:custom", onMessage as never);
    model.off("comm:close", lost as never);
    transport.close();
    strip.stop();
  };
}
