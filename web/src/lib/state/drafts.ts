// What is typed and not yet sent: kept in this browser at every key, and on the server a moment later, so that it outlives
// a reload, a new sign-in and a change of device. The newer of the two wins.
import { put } from "../api/client.ts";
import type { Attachment, Draft } from "../api/types.ts";

const PREFIX = "pagemill.draft";
const SERVER_DELAY_MS = 1200;

const timers = new Map<string, ReturnType<typeof setTimeout>>();

function key(user: string, conversation: string | null): string {
  return `${PREFIX}.${user}.${conversation ?? "new"}`;
}

export function readDraft(user: string, conversation: string | null, server: Draft | null): Draft | null {
  try {
    const stored = localStorage.getItem(key(user, conversation));
    if (stored) {
      const local = JSON.parse(stored) as Draft;
      if (!server || local.updated_ms >= server.updated_ms) return local;
    }
  } catch { /* no storage, or not ours */ }
  return server;
}

export function saveDraft(user: string, conversation: string | null, text: string, documents: Attachment[]): void {
  const name = key(user, conversation);
  const empty = text === "" && documents.length === 0;
  try {
    if (empty) localStorage.removeItem(name);
    else localStorage.setItem(name, JSON.stringify({ text, documents, updated_ms: Date.now() } satisfies Draft));
  } catch { /* the server's copy remains */ }
  clearTimeout(timers.get(name));
  timers.set(name, setTimeout(() => {
    const path = conversation ? `/conversations/${conversation}/draft` : "/drafts/new";
    void put<void>(path, { text, documents }).catch(() => {});
  }, SERVER_DELAY_MS));
}

/// After the server has taken the message: it clears its own copy of a conversation's draft.
export function clearDraft(user: string, conversation: string | null): void {
  const name = key(user, conversation);
  clearTimeout(timers.get(name));
  try { localStorage.removeItem(name); } catch { /* nothing was kept */ }
  if (conversation === null) void put<void>("/drafts/new", { text: "", documents: [] }).catch(() => {});
}
