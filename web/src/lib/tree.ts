// The message tree of a conversation: which messages are children of which, and the branch that ends in the head.

export interface TreeMessage { id: string; parent_id: string | null }

export class MessageTree<M extends TreeMessage> {
  private readonly byId = new Map<string, M>();
  private readonly childrenOf = new Map<string | null, M[]>();

  get size(): number {
    return this.byId.size;
  }
  messages(): Iterable<M> {
    return this.byId.values();
  }
  get(id: string): M | undefined {
    return this.byId.get(id);
  }
  children(parent: string | null): readonly M[] {
    return this.childrenOf.get(parent) ?? [];
  }
  siblings(message: M): readonly M[] {
    return this.children(message.parent_id);
  }

  /// Adds it after its siblings; a message that is there already stays.
  add(message: M): void {
    if (this.byId.has(message.id)) return;
    this.byId.set(message.id, message);
    const siblings = this.childrenOf.get(message.parent_id);
    if (siblings) siblings.push(message);
    else this.childrenOf.set(message.parent_id, [message]);
  }

  remove(id: string): void {
    const message = this.byId.get(id);
    if (!message) return;
    this.byId.delete(id);
    const siblings = this.childrenOf.get(message.parent_id) ?? [];
    this.childrenOf.set(message.parent_id, siblings.filter((other) => other.id !== id));
  }

  clear(): void {
    this.byId.clear();
    this.childrenOf.clear();
  }

  /// From the first message to `head`. Without a head: to the newest leaf. A cycle or a missing parent ends it.
  branch(head: string | null): M[] {
    const path: M[] = [];
    const seen = new Set<string>();
    let at = head === null ? this.leaf(null) : this.byId.get(head);
    while (at && !seen.has(at.id)) {
      seen.add(at.id);
      path.push(at);
      at = at.parent_id === null ? undefined : this.byId.get(at.parent_id);
    }
    return path.reverse();
  }

  /// The newest leaf below a message, following the newest child each time.
  leaf(from: string | null): M | undefined {
    let at = from === null ? undefined : this.byId.get(from);
    let children = this.children(from);
    const seen = new Set<string>();
    while (children.length > 0) {
      at = children[children.length - 1]!;
      if (seen.has(at.id)) break;
      seen.add(at.id);
      children = this.children(at.id);
    }
    return at;
  }
}
