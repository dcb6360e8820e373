// Short messages at the edge of the page; one may carry an action, such as Undo.
import { ApiError } from "../api/client.ts";
import { en } from "../i18n/en.ts";
import { t, type Key } from "../i18n/index.svelte.ts";

export interface Toast { id: number; text: string; kind: "info" | "error"; action?: { label: string; run: () => void } }

class Toasts {
  list = $state<Toast[]>([]);
  private next = 1;

  show(text: string, options: { kind?: Toast["kind"]; action?: Toast["action"]; ms?: number } = {}): void {
    const id = this.next++;
    this.list.push({ id, text, kind: options.kind ?? "info", action: options.action });
    if (this.list.length > 4) this.list.shift();
    setTimeout(() => this.dismiss(id), options.ms ?? (options.action || options.kind === "error" ? 9000 : 4000));
  }

  error(error: unknown): void {
    if (error instanceof ApiError && (error.reason === "signed_out" || error.reason === "aborted")) return;
    this.show(explain(error), { kind: "error" });
  }

  dismiss(id: number): void {
    this.list = this.list.filter((toast) => toast.id !== id);
  }
}

export const toasts = new Toasts();

/// An error in the reader's language: by its reason where we have words for it, else the server's own sentence.
export function explain(error: unknown): string {
  if (!(error instanceof ApiError)) return error instanceof Error ? error.message : String(error);
  return explainReason(error.reason, error.message, error.retryAfter);
}

export function explainReason(reason: string, message: string, retryAfter: number | null = null): string {
  const key = `error.${reason}`;
  // What is wrong with one field only the server's sentence says.
  if (reason === "invalid_argument" || !(key in en)) return message || t("error.internal");
  const text = t(key as Key);
  return retryAfter ? `${text} ${t("error.retry_after", { n: retryAfter })}` : text;
}
