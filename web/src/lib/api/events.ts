// The tab's one event stream. Closed while the tab is hidden, reopened where it was left; what was missed is replayed by the server.
import { API, query } from "./client.ts";
import type { Generation, ListItem, Message, PageDocument, Sample } from "./types.ts";

export interface Events {
  reset: Record<string, never>;
  conversation: ListItem;
  conversation_deleted: { id: string };
  message: { conversation_id: string; message: Message; head_id: string | null };
  delta: { conversation_id: string; message_id: string; generation_id: string; offset: number; text: string };
  generation: Generation & { ahead: number | null };
  document: PageDocument;
  changed: { what: "folders" | "templates" | "keys" | "me" | "users" | "sessions" | "models" };
  sample: Sample;
  signed_out: Record<string, never>;
}
type Name = keyof Events;
type Handler<N extends Name> = (data: Events[N]) => void;

const NAMES: Name[] = ["reset", "conversation", "conversation_deleted", "message", "delta", "generation", "document", "changed", "sample", "signed_out"];
const RETRY_MS_MAX = 15_000;

export class EventChannel {
  private source: EventSource | null = null;
  private lastId = "";
  private live = false;
  private wanted = false;
  private failures = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly handlers = new Map<Name, Set<Handler<never>>>();
  /// Told whether the stream stands.
  onState: (connected: boolean) => void = () => {};

  constructor() {
    globalThis.document?.addEventListener("visibilitychange", () => this.settle());
  }

  on<N extends Name>(name: N, handler: Handler<N>): () => void {
    const set = this.handlers.get(name) ?? new Set();
    this.handlers.set(name, set);
    set.add(handler as Handler<never>);
    return () => set.delete(handler as Handler<never>);
  }

  open(): void {
    this.wanted = true;
    this.settle();
  }

  close(): void {
    this.wanted = false;
    this.lastId = "";
    this.settle();
  }

  /// Whether machine samples are sent along.
  setLive(live: boolean): void {
    if (live === this.live) return;
    this.live = live;
    this.drop();
    this.settle();
  }

  private settle(): void {
    const should = this.wanted && !document.hidden;
    if (should && !this.source) this.connect();
    if (!should) this.drop();
  }

  private drop(): void {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  private connect(): void {
    const source = new EventSource(`${API}/events${query({ live: this.live, after: this.lastId })}`);
    this.source = source;
    source.onopen = () => {
      this.failures = 0;
      this.onState(true);
    };
    // The browser's own retry is not used: it would never give up on a session that has ended.
    source.onerror = () => {
      if (this.source !== source) return;
      this.drop();
      this.failures += 1;
      if (this.failures > 1) this.onState(false);
      this.timer = setTimeout(() => this.settle(), Math.min(RETRY_MS_MAX, 250 * 2 ** this.failures));
    };
    for (const name of NAMES) {
      source.addEventListener(name, (event) => {
        const { data, lastEventId } = event as MessageEvent<string>;
        if (lastEventId) this.lastId = lastEventId;
        if (name === "signed_out") this.close();
        const value = JSON.parse(data) as never;
        for (const handler of this.handlers.get(name) ?? []) handler(value);
      });
    }
  }
}

export const events = new EventChannel();
