import { describe, expect, it } from "vitest";
import type { Template } from "../src/lib/api/types.ts";
import { groupOf } from "../src/lib/state/conversations.svelte.ts";
import { parse } from "../src/lib/state/router.svelte.ts";
import { commandOf, describe as describeVariables, matching, namesIn } from "../src/lib/templates.ts";
import { MessageTree } from "../src/lib/tree.ts";

const message = (id: string, parent_id: string | null) => ({ id, parent_id });

describe("MessageTree", () => {
  const build = (...rows: [string, string | null][]) => {
    const tree = new MessageTree<ReturnType<typeof message>>();
    for (const [id, parent] of rows) tree.add(message(id, parent));
    return tree;
  };
  const ids = (list: readonly { id: string }[]) => list.map((one) => one.id).join("");

  it("shows the branch that ends in the head, and the newest without one", () => {
    const tree = build(["a", null], ["b", "a"], ["c", "b"], ["d", "a"], ["e", "d"]);
    expect(ids(tree.branch("c"))).toBe("abc");
    expect(ids(tree.branch(null))).toBe("ade");
    expect(ids(tree.siblings(tree.get("b")!))).toBe("bd");
    expect(tree.leaf("b")!.id).toBe("c");
  });
  it("has siblings at the root: an edited first message", () => {
    const tree = build(["a", null], ["b", "a"], ["x", null]);
    expect(ids(tree.siblings(tree.get("a")!))).toBe("ax");
    expect(ids(tree.branch(null))).toBe("x");
  });
  it("survives a missing parent, a cycle and a repeated message", () => {
    expect(ids(build(["b", "gone"]).branch("b"))).toBe("b");
    const cycle = build(["a", "b"], ["b", "a"]);
    expect(ids(cycle.branch("a"))).toBe("ba");
    expect(cycle.leaf("a")).toBeDefined();
    const tree = build(["a", null], ["a", null]);
    expect(tree.size).toBe(1);
  });
  it("forgets what is removed", () => {
    const tree = build(["a", null], ["b", "a"], ["c", "a"]);
    tree.remove("c");
    expect(ids(tree.children("a"))).toBe("b");
    expect(ids(tree.branch("gone"))).toBe("");
  });
});

describe("templates", () => {
  const template = (command: string, title: string): Template =>
    ({ id: command, command, title, text: "", variables: [], shared: false, mine: true, editable: true, owner: "", created_ms: 0, updated_ms: 0 });

  it("are offered for a slash at the beginning only", () => {
    expect(commandOf("/")).toBe("");
    expect(commandOf("/Sum")).toBe("sum");
    expect(commandOf("/翻译")).toBe("翻译");
    expect(commandOf("/sum it")).toBeNull();
    expect(commandOf("see /sum")).toBeNull();
  });
  it("are ordered by how well the command fits", () => {
    const list = [template("translate", "Summary translated"), template("summary", "S"), template("sum", "S")];
    expect(matching(list, "sum").map((one) => one.command)).toEqual(["sum", "summary", "translate"]);
    expect(matching(list, "zzz")).toEqual([]);
  });
  it("know their variables, without those of the system", () => {
    expect(namesIn("{{topic}} {{ 语言 }} {{topic}} {{CURRENT_DATE}} {{CLIPBOARD}}")).toEqual(["topic", "语言"]);
    const known = [{ name: "topic", label: "Topic", type: "paragraph" as const, default: "x", required: false, options: [] }];
    expect(describeVariables("{{topic}} {{new}}", known).map((one) => one.type)).toEqual(["paragraph", "text"]);
  });
});

describe("addresses", () => {
  const id = "0123456789abcdef0123456789abcdef";
  it("name a conversation, a message in it, and the other pages", () => {
    expect(parse(`/c/${id}`)).toEqual({ name: "conversation", id, message: null });
    expect(parse(`/c/${id}/`, `#m-${id}`)).toEqual({ name: "conversation", id, message: id });
    expect(parse("/settings/keys")).toEqual({ name: "settings", tab: "keys" });
    expect(parse("/admin/nonsense")).toEqual({ name: "admin", tab: "users" });
  });
  it("lead to a new chat when they are nonsense", () => {
    for (const path of ["/", "", "/c/xyz", "/c/../x", "/nowhere"]) expect(parse(path)).toEqual({ name: "new" });
  });
});

describe("groups of the list", () => {
  it("follow the reader's days", () => {
    const now = new Date(2026, 5, 15, 10, 0);
    const at = (days: number, hours = 0): number => new Date(2026, 5, 15 - days, hours).getTime();
    expect(groupOf(at(0, 1), now)).toBe("today");
    expect(groupOf(at(1, 23), now)).toBe("yesterday");
    expect(groupOf(at(6), now)).toBe("week");
    expect(groupOf(at(20), now)).toBe("month");
    expect(groupOf(at(90), now)).toBe("older");
  });
});
