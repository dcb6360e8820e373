// The documents of the message being written: upload, reading, exact token counts, and what to do when they do not fit.
import { ApiError, get, newId, post, upload, type Upload } from "../api/client.ts";
import { events } from "../api/events.ts";
import type { AttachedDocument, Attachment, Fit, Mode, PageDocument } from "../api/types.ts";
import { t } from "../i18n/index.svelte.ts";
import { session } from "./session.svelte.ts";
import { explain, explainReason, toasts } from "./toasts.svelte.ts";

export class Attached {
  readonly id: string;
  readonly name: string;
  document = $state.raw<PageDocument | null>(null);
  /// Share of the bytes that are on the server; null once all are.
  uploaded = $state<number | null>(0);
  error = $state<string | null>(null);
  mode = $state<Mode>("whole");
  pages = $state("");
  /// Tokens that would be sent of it in its mode.
  tokens = $state<number | null>(null);
  transfer: Upload | null = null;

  constructor(id: string, name: string) {
    this.id = id;
    this.name = name;
  }

  get ready(): boolean {
    return this.document?.status === "ready";
  }

  take(document: PageDocument): void {
    this.document = document;
    this.uploaded = null;
    if (document.status === "failed") this.error = explainReason(document.error?.reason ?? "damaged", document.error?.message ?? "");
  }

  toAttachment(): Attachment {
    return this.mode === "pages" ? { id: this.id, mode: this.mode, pages: this.pages } : { id: this.id, mode: this.mode };
  }

  shown(): AttachedDocument {
    return {
      id: this.id, name: this.name, kind: this.document?.kind ?? "text", mode: this.mode, pages: this.mode === "pages" ? this.pages : null,
      tokens: this.tokens ?? this.document?.tokens ?? 0,
    };
  }
}

export class Attachments {
  list = $state<Attached[]>([]);
  fit = $state.raw<Fit | null>(null);
  fitting = $state(false);
  private timer: ReturnType<typeof setTimeout> | undefined;
  private round = 0;
  private readonly stop: () => void;

  constructor() {
    this.stop = events.on("document", (document) => this.list.find((one) => one.id === document.id)?.take(document));
  }

  destroy(): void {
    clearTimeout(this.timer);
    this.stop();
  }

  /// Whether anything still has to happen before the message can go.
  get waiting(): boolean {
    return this.list.some((one) => !one.error && !one.ready);
  }
  get usable(): Attached[] {
    return this.list.filter((one) => one.ready);
  }

  add(files: Iterable<File>): void {
    const limits = session.models?.documents;
    for (const file of files) {
      if (limits && this.list.length >= limits.per_message_max) {
        toasts.show(t("attach.too_many", { n: limits.per_message_max }), { kind: "error" });
        return;
      }
      const one = new Attached(newId(), file.name || "document.txt");
      this.list.push(one);
      if (limits && file.size > limits.bytes_max) {
        one.uploaded = null;
        one.error = t("attach.too_large", { mb: Math.floor(limits.bytes_max / 2 ** 20) });
      } else if (file.size === 0) {
        one.uploaded = null;
        one.error = t("error.empty");
      } else {
        void this.send(this.list.at(-1)!, file);
      }
    }
  }

  private async send(one: Attached, file: File): Promise<void> {
    one.transfer = upload(file, one.name, one.id, (share) => { if (one.uploaded !== null) one.uploaded = share; });
    try {
      one.take(await one.transfer.done);
      void this.watch(one);
    } catch (error) {
      one.uploaded = null;
      if (!(error instanceof ApiError && error.reason === "aborted")) one.error = explain(error);
    } finally {
      one.transfer = null;
    }
  }

  /// The end of reading comes as an event; this asks, in case the stream was down.
  private async watch(one: Attached): Promise<void> {
    for (let wait = 1000; one.document?.status === "extracting" && this.list.includes(one); wait = Math.min(wait * 1.5, 5000)) {
      await new Promise((resolve) => setTimeout(resolve, wait));
      if (one.document?.status !== "extracting") return;
      try { one.take(await get<PageDocument>(`/documents/${one.id}`)); } catch { /* asked again */ }
    }
  }

  /// Those of a draft, or of a message that is edited.
  async restore(attachments: Attachment[]): Promise<void> {
    for (const attachment of attachments) {
      try {
        const document = await get<PageDocument>(`/documents/${attachment.id}`);
        if (this.list.some((one) => one.id === document.id)) continue;
        const one = new Attached(document.id, document.name);
        one.mode = attachment.mode;
        one.pages = attachment.pages ?? "";
        this.list.push(one);
        this.list.at(-1)!.take(document);
        if (document.status === "extracting") void this.watch(this.list.at(-1)!);
      } catch { /* deleted meanwhile */ }
    }
  }

  remove(one: Attached): void {
    one.transfer?.abort();
    this.list = this.list.filter((other) => other.id !== one.id);
    if (this.list.length === 0) this.fit = null;
  }

  clear(): void {
    clearTimeout(this.timer);
    this.round += 1;
    this.list = [];
    this.fit = null;
    this.fitting = false;
  }

  /// Asks the server for exact counts, a moment after the last change.
  count(request: { conversation_id: string | null; parent_id: string | null; text: string; system_prompt?: string }): void {
    clearTimeout(this.timer);
    const documents = this.usable.map((one) => one.toAttachment());
    if (documents.some((one) => one.mode === "pages" && !/\d/.test(one.pages ?? ""))) return;
    if (documents.length === 0 && request.text.length < 2000) {
      this.fit = null;
      this.fitting = false;
      return;
    }
    const round = ++this.round;
    this.fitting = true;
    this.timer = setTimeout(async () => {
      try {
        const fit = await post<Fit>("/fit", { ...request, documents });
        if (round !== this.round) return;
        this.fit = fit;
        for (const { id, tokens } of fit.documents) {
          const one = this.list.find((other) => other.id === id);
          if (one) one.tokens = tokens;
        }
      } catch (error) {
        if (round === this.round && !(error instanceof ApiError && error.status === 503)) toasts.error(error);
      } finally {
        if (round === this.round) this.fitting = false;
      }
    }, 350);
  }
}
