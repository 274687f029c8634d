/** Context that the parts of one view share. */

import type { RunModel } from "../model.ts";
import type { Transport } from "../transport.ts";
import type { Notices } from "./notices.ts";

export interface Context {
  readonly model: RunModel;
  readonly transport: Transport;
  readonly notices: Notices;
  /** Draw with the next frame. */
  schedule(): void;
}
