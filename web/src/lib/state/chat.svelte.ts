// The open conversation: its message tree, the branch that is shown, and the answers that grow in it.
import { get, newId, patch, post } from "../api/client.ts";
import { events, type Events } from "../api/events.ts";
import type { AttachedDocument, Attachment, Conversation, Generation, Message, Sampling } from "../api/types.ts";
import { MessageTree } from "../tree.ts";
import { conversations } from "./conversations.svelte.ts";
import { router } from "./router.svelte.ts";
import { session } from "./session.svelte.ts";
import { explain, toasts } from "./toasts.svelte.ts";

/// A message on the page. Its text grows; the rest is replaced as a whole.
export class Node {
  readonly id: string;
  readonly parent_id: string | null;
  readonly role: "user" | "assistant";
  message = $state.raw<Message>(null!);
  text = $state.raw("");
  /// Requests ahead of this answer in the queue; null when not queued.
  ahead = $state<number | null>(null);
  /// A message of the user's that the server has not taken: what went wrong, or "" while it is under way.
  unsent = $state<string | null>(null);
  attachments: Attachment[] = [];

  constructor(message: Message) {
    this.id = message.id;
    this.parent_id = message.parent_id;
    this.role = message.role;
    this.message = message;
    this.text = message.text;
  }

  get generating(): boolean {
    return this.message.status === "generating";
  }

  /// Takes what the server says of it. What was read before the end of an answer and comes after the news of it is out of date.
  renew(message: Message): this {
    this.unsent = null;
    if (message.status === "generating" && !this.generating && message.generation_id === this.message.generation_id) return this;
    this.message = message;
    // A growing answer's text comes by deltas; what a message says is whole only when it has ended.
    if (message.status !== "generating" || message.text.length > this.text.length) this.text = message.text;
    return this;
  }
}

interface Loaded { conversation: Conversation; messages: Message[] }
interface Sent { user_message: Message; assistant_message: Message | null; generation: Generation | null }
interface Answered { assistant_message: Message; generation: Generation }

class Chat {
  conversation = $state.raw<Conversation | null>(null);
  branch = $state.raw<Node[]>([]);
  loading = $state(false);
  error = $state<unknown>(null);
  /// Counted up when the tree changes: what shows ‹2/3› depends on it.
  version = $state(0);
  private readonly tree = new MessageTree<Node>();
  private head: string | null = null;
  private moves = 0;                // how often the head has changed, but for loading
  private wanted: string | null = null;
  /// Deltas that came while the conversation was being loaded.
  private early: Events["delta"][] = [];

  constructor() {
    events.on("delta", (delta) => this.onDelta(delta));
    events.on("message", (event) => this.onMessage(event));
    events.on("generation", (event) => {
      const node = this.tree.get(event.message_id);
      if (node) node.ahead = event.status === "queued" ? event.ahead : null;
    });
    events.on("conversation", (item) => {
      if (this.conversation?.id === item.id) this.conversation = { ...this.conversation, ...item };
    });
    events.on("conversation_deleted", ({ id }) => {
      if (this.conversation?.id === id && router.route.name === "conversation") router.go("/");
    });
    events.on("reset", () => { if (this.wanted) void this.load(this.wanted); });
  }

  get answering(): Node | null {
    return this.branch.findLast((node) => node.generating) ?? null;
  }

  /// Shows a conversation; null = none (a new one).
  async open(id: string | null): Promise<void> {
    if (id === this.wanted) return;
    this.wanted = id;
    this.early = [];
    this.error = null;
    if (this.conversation?.id !== id) {
      this.tree.clear();
      this.head = null;
      this.conversation = null;
      this.branch = [];
    }
    if (id) await this.load(id);
  }

  async load(id: string): Promise<void> {
    this.loading = this.conversation?.id !== id;
    const moves = this.moves;
    const before = new Set([...this.tree.messages()].map((node) => node.id));
    try {
      const { conversation, messages } = await get<Loaded>(`/conversations/${id}`);
      if (this.wanted !== id) return;
      const known = new Map(messages.map(({ id }) => [id, this.tree.get(id)]));
      // What the reader has done and what the stream has told since the question left is newer than the answer to it.
      const newer = [...this.tree.messages()].filter((node) => !known.has(node.id) && (node.unsent !== null || !before.has(node.id)));
      this.tree.clear();
      // What is on the page stays the same object, so that a second look changes only what has changed.
      for (const message of messages) this.tree.add(known.get(message.id)?.renew(message) ?? new Node(message));
      for (const node of newer) this.tree.add(node);
      const stays = this.moves !== moves || newer.some((node) => node.unsent !== null);
      if (!stays || !this.head || !this.tree.get(this.head)) this.head = conversation.head_id;
      this.conversation = conversation;
      this.rebuild();
      this.replay();
      if (conversation.unread) void post<void>(`/conversations/${id}/read`).catch(() => {});
    } catch (error) {
      if (this.wanted === id) this.error = error;
    } finally {
      if (this.wanted === id) this.loading = false;
    }
  }

  private show(head: string | null): void {
    this.head = head;
    this.moves += 1;
    this.rebuild();
  }

  private rebuild(): void {
    this.branch = this.tree.branch(this.head);
    this.version += 1;
  }

  private onDelta(delta: Events["delta"]): void {
    if (delta.conversation_id !== this.wanted) return;
    const node = this.tree.get(delta.message_id);
    if (!node) {
      this.early.push(delta);
      return;
    }
    const have = node.text.length;
    if (delta.offset > have) {
      // Something was missed: the whole text has it.
      void this.load(delta.conversation_id);
      return;
    }
    node.ahead = null;
    node.text += delta.text.slice(have - delta.offset);
  }

  private replay(): void {
    const early = this.early;
    this.early = [];
    for (const delta of early) this.onDelta(delta);
  }

  private onMessage({ conversation_id, message, head_id }: Events["message"]): void {
    if (conversation_id !== this.wanted || !this.conversation) return;
    const known = this.tree.get(message.id) !== undefined;
    this.take(message);
    // The end of an answer names no head: whoever looks at another branch by then stays there.
    if (head_id !== null && head_id !== this.head) this.show(head_id);
    else if (!known) this.rebuild();
    if (!known) this.replay();
    if (message.status !== "generating" && message.role === "assistant" && !document.hidden) {
      void post<void>(`/conversations/${conversation_id}/read`).catch(() => {});
    }
  }

  private take(message: Message): Node {
    const node = this.tree.get(message.id);
    if (!node) {
      const made = new Node(message);
      this.tree.add(made);
      return made;
    }
    return node.renew(message);
  }

  siblings(node: Node): readonly Node[] {
    void this.version;
    return this.tree.siblings(node);
  }

  /// Sends text as a child of `parent` (the end of the branch where not given). The message is shown at once; a new conversation is made first.
  async send(text: string, documents: { attachment: Attachment; shown: AttachedDocument }[], start: Partial<Conversation> = {}, parent?: string | null): Promise<boolean> {
    const id = newId();
    if (!this.conversation) {
      try {
        const created = await post<Conversation>("/conversations", { id: newId(), ...start });
        this.conversation = created;
        this.wanted = created.id;
        conversations.merge(created);
        router.go(`/c/${created.id}`);
      } catch (error) {
        toasts.error(error);
        return false;
      }
    }
    const node = new Node({
      id, parent_id: parent === undefined ? (this.branch.at(-1)?.id ?? null) : parent, role: "user", text, created_ms: Date.now(), status: "done",
      generation_id: null, model: null, error: null, documents: documents.map(({ shown }) => shown), stats: null,
    });
    node.attachments = documents.map(({ attachment }) => attachment);
    node.unsent = "";
    this.tree.add(node);
    this.show(id);
    return await this.deliver(node);
  }

  private async deliver(node: Node): Promise<boolean> {
    const conversation = this.conversation!.id;
    node.unsent = "";
    try {
      const sent = await post<Sent>(`/conversations/${conversation}/messages`, {
        id: node.id, parent_id: node.parent_id, text: node.text, documents: node.attachments,
      });
      if (this.conversation?.id !== conversation) return true;
      node.renew(sent.user_message);
      if (sent.assistant_message) this.begin(sent.assistant_message);
      else this.rebuild();
      return true;
    } catch (error) {
      node.unsent = explain(error);
      return false;
    }
  }

  /// An answer that a request of this tab began. The event stream may have told of it before, and even of its end: then it knows
  /// better, and the reader may have gone on to another branch.
  private begin(answer: Message): void {
    if (this.conversation === null || this.tree.get(answer.id)?.message.generation_id === answer.generation_id) return;
    this.take(answer);
    this.replay();
    this.show(answer.id);
  }

  async retry(node: Node): Promise<void> {
    await this.deliver(node);
  }

  discard(node: Node): void {
    this.tree.remove(node.id);
    this.show(node.parent_id);
  }

  private async answer(path: string, node: Node): Promise<void> {
    const conversation = this.conversation;
    if (!conversation) return;
    try {
      this.begin((await post<Answered>(`/conversations/${conversation.id}/${path}`, { message_id: node.id })).assistant_message);
    } catch (error) {
      toasts.error(error);
    }
  }

  regenerate(node: Node): Promise<void> {
    return this.answer("regenerate", node);
  }
  continue(node: Node): Promise<void> {
    return this.answer("continue", node);
  }

  async stop(): Promise<void> {
    const id = this.answering?.message.generation_id;
    if (!id) return;
    await post<void>(`/generations/${id}/stop`).catch((error) => toasts.error(error));
  }

  /// Shows the branch through a sibling, down to its newest leaf.
  async select(sibling: Node): Promise<void> {
    const head = (this.tree.leaf(sibling.id) ?? sibling).id;
    this.show(head);
    if (this.conversation) await this.patch({ head_id: head });
  }

  /// Makes a message visible, whichever branch it is on.
  async reveal(id: string): Promise<void> {
    const node = this.tree.get(id);
    if (node && !this.branch.includes(node)) await this.select(node);
  }

  async patch(change: { head_id?: string; model?: string | null; system_prompt?: string; sampling?: Sampling; title?: string }): Promise<boolean> {
    if (!this.conversation) return false;
    try {
      this.conversation = await patch<Conversation>(`/conversations/${this.conversation.id}`, change);
      conversations.merge(this.conversation);
      return true;
    } catch (error) {
      toasts.error(error);
      return false;
    }
  }

  modelName(): string {
    return session.model(this.conversation?.model ?? null)?.name ?? "";
  }
}

export const chat = new Chat();
