/** Transport of commands to Python: sends them, matches replies to requests, and times out. */

import type { Message, Model, Reply } from "./protocol.ts";

const hex = (bytes: Uint8Array): string => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
/** `randomUUID` exists on https and localhost only. */
export const uuid = (): string => crypto.randomUUID?.() ?? hex(crypto.getRandomValues(new Uint8Array(16)));

/** Seconds after which a request without an answer fails: a kernel that is gone never answers. */
export const ANSWER_WITHIN = 15;

interface Pending {
  resolve(value: { reply: Reply; buffers: DataView[] }): void;
  reject(error: Error): void;
  onPart?: ((reply: Reply, buffers: DataView[]) => void) | undefined;
  timer: ReturnType<typeof setTimeout>;
}

export class Transport {
  private pending = new Map<string, Pending>();

  constructor(private readonly model: Model) {}

  /** Send a command on both ways that may reach a busy kernel. Python drops the second copy by its nonce. */
  send(op: string, args: Record<string, unknown> = {}): string {
    const nonce = uuid();
    const content = { op, args, nonce, t: Date.now(), comm_id: this.model.get("uid") };
    const kernel = this.model.widget_manager?.kernel;
    if (kernel?.sendControlMessage) {
      const header = {
        msg_id: uuid(),
        msg_type: "flyte_ui",
        session: kernel.clientId ?? "",
        username: kernel.username ?? "",
        version: "5.4",
        date: new Date().toISOString(),
      };
      const message = { header, parent_header: {}, metadata: {}, content, buffers: [], channel: "control" };
      try {
        kernel.sendControlMessage(message, false, true);
      } catch {
        // Not connected at this moment: the widget message below is queued by the front end.
      }
    }
    this.model.send(content);
    return nonce;
  }

  /** Send a command and wait for its reply. */
  request(
    op: string,
    args: Record<string, unknown> = {},
    onPart?: (reply: Reply, buffers: DataView[]) => void,
    within = ANSWER_WITHIN,
  ): Promise<{ reply: Reply; buffers: DataView[] }> {
    return new Promise((resolve, reject) => {
      const nonce = this.send(op, args);
      const timer = setTimeout(() => {
        this.pending.delete(nonce);
        reject(new Error("The kernel did not answer. Is it still running?"));
      }, within * 1000);
      this.pending.set(nonce, { resolve, reject, onPart, timer });
    });
  }

  /** Send a command; `say` takes the text of its reply, or of its error. */
  command(op: string, args: Record<string, unknown>, say: (text: string, error: boolean) => void): void {
    this.request(op, args).then(
      ({ reply }) => reply.text && say(reply.text, false),
      (error: Error) => error.message !== "closed" && say(error.message, true),
    );
  }

  /** Take a message; true if it was the reply to a request. */
  take(message: Message, buffers: DataView[]): boolean {
    if (message.kind !== "reply") return false;
    const waiting = this.pending.get(message.to);
    if (!waiting) return true; // Another browser's.
    if (message.error) {
      this.done(message.to, waiting);
      waiting.reject(new Error(message.error));
      return true;
    }
    if (waiting.onPart) {
      waiting.onPart(message, buffers);
      if (Number(message.part) + 1 < Number(message.parts)) return true;
    }
    this.done(message.to, waiting);
    waiting.resolve({ reply: message, buffers });
    return true;
  }

  private done(nonce: string, waiting: Pending): void {
    clearTimeout(waiting.timer);
    this.pending.delete(nonce);
  }

  close(): void {
    for (const waiting of this.pending.values()) {
      clearTimeout(waiting.timer);
      waiting.reject(new Error("closed"));
    }
    this.pending.clear();
  }
}
