// The sidebar's list: pinned and recent conversations, folders, the archive. Follows the event stream.
import { del, get, patch, post, query } from "../api/client.ts";
import { events } from "../api/events.ts";
import type { Conversation, Folder, ListItem } from "../api/types.ts";
import { t } from "../i18n/index.svelte.ts";
import { router } from "./router.svelte.ts";
import { toasts } from "./toasts.svelte.ts";

interface Page { pinned?: ListItem[]; conversations: ListItem[]; next: string | null }
export type View = { kind: "all" } | { kind: "archive" } | { kind: "folder"; id: string };

class Conversations {
  items = $state<ListItem[]>([]);
  folders = $state<Folder[]>([]);
  view = $state<View>({ kind: "all" });
  loaded = $state(false);
  loading = $state(false);
  next: string | null = null;

  pinned = $derived(this.items.filter((item) => item.pinned).sort((a, b) => b.updated_ms - a.updated_ms));
  recent = $derived(this.items.filter((item) => !item.pinned).sort((a, b) => b.updated_ms - a.updated_ms));

  constructor() {
    events.on("conversation", (item) => this.merge(item));
    events.on("conversation_deleted", ({ id }) => this.drop(id));
    events.on("changed", ({ what }) => { if (what === "folders") void this.loadFolders(); });
    events.on("reset", () => void this.load());
  }

  private path(after: string | null): string {
    const view = this.view;
    return `/conversations${query({ archived: view.kind === "archive", folder: view.kind === "folder" ? view.id : null, after, limit: 60 })}`;
  }

  async load(): Promise<void> {
    const view = this.view;
    this.loading = true;
    try {
      const [page] = await Promise.all([get<Page>(this.path(null)), this.loadFolders()]);
      if (view !== this.view) return;
      this.items = [...(page.pinned ?? []), ...page.conversations];
      this.next = page.next;
      this.loaded = true;
    } catch (error) {
      toasts.error(error);
    } finally {
      this.loading = false;
    }
  }

  async more(): Promise<void> {
    if (!this.next || this.loading) return;
    this.loading = true;
    try {
      const page = await get<Page>(this.path(this.next));
      const known = new Set(this.items.map((item) => item.id));
      this.items.push(...page.conversations.filter((item) => !known.has(item.id)));
      this.next = page.next;
    } catch (error) {
      toasts.error(error);
    } finally {
      this.loading = false;
    }
  }

  async loadFolders(): Promise<void> {
    this.folders = (await get<{ folders: Folder[] }>("/folders")).folders;
  }

  show(view: View): void {
    this.view = view;
    this.items = [];
    this.loaded = false;
    void this.load();
  }

  private belongs(item: ListItem): boolean {
    if (this.view.kind === "archive") return item.archived;
    if (this.view.kind === "folder") return !item.archived && item.folder_id === this.view.id;
    return !item.archived;
  }

  merge(item: ListItem): void {
    const at = this.items.findIndex((other) => other.id === item.id);
    if (!this.belongs(item)) {
      if (at >= 0) this.items.splice(at, 1);
    } else if (at >= 0) {
      this.items[at] = item;
    } else {
      this.items.push(item);
    }
  }

  private drop(id: string): void {
    this.items = this.items.filter((item) => item.id !== id);
  }

  async change(id: string, change: Partial<Pick<ListItem, "title" | "pinned" | "archived" | "folder_id">>): Promise<void> {
    try {
      this.merge(await patch<Conversation>(`/conversations/${id}`, change));
      if (change.archived !== undefined) {
        toasts.show(t(change.archived ? "toast.archived" : "toast.unarchived"), {
          action: { label: t("action.undo"), run: () => void this.change(id, { archived: !change.archived }) },
        });
      }
    } catch (error) {
      toasts.error(error);
    }
  }

  async remove(item: ListItem): Promise<void> {
    const open = router.route.name === "conversation" && router.route.id === item.id;
    try {
      await del<void>(`/conversations/${item.id}`);
      this.drop(item.id);
      if (open) router.go("/");
      toasts.show(t("toast.deleted"), { action: { label: t("action.undo"), run: () => void this.restore(item.id, open) } });
    } catch (error) {
      toasts.error(error);
    }
  }

  private async restore(id: string, open: boolean): Promise<void> {
    try {
      this.merge(await post<Conversation>(`/conversations/${id}/restore`));
      if (open) router.go(`/c/${id}`);
    } catch (error) {
      toasts.error(error);
    }
  }

  async addFolder(name: string): Promise<Folder | null> {
    try {
      const folder = await post<Folder>("/folders", { name });
      await this.loadFolders();
      return folder;
    } catch (error) {
      toasts.error(error);
      return null;
    }
  }

  async renameFolder(id: string, name: string): Promise<void> {
    await patch<Folder>(`/folders/${id}`, { name }).then(() => this.loadFolders(), (error) => toasts.error(error));
  }

  async removeFolder(id: string): Promise<void> {
    try {
      await del<void>(`/folders/${id}`);
      await this.loadFolders();
      if (this.view.kind === "folder" && this.view.id === id) this.show({ kind: "all" });
    } catch (error) {
      toasts.error(error);
    }
  }
}

export const conversations = new Conversations();

export type Group = "today" | "yesterday" | "week" | "month" | "older";

/// By day of the last change, in the reader's own time zone.
export function groupOf(ms: number, now = new Date()): Group {
  const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate()).getTime();
  const day = 86_400_000;
  if (ms >= midnight) return "today";
  if (ms >= midnight - day) return "yesterday";
  if (ms >= midnight - 7 * day) return "week";
  if (ms >= midnight - 30 * day) return "month";
  return "older";
}
