// What the screenshots show: answers of the interface (docs/chat_api.md) with titles too long, two languages, errors and empty lists.
const NOW = Date.now();
const DAY = 86_400_000;
const id = (n) => String(n).padStart(32, "0");

export const EMAIL = "ada.lovelace.of.the.analytical@example.org";
const user = { id: id(1), email: EMAIL, name: "Ada Lovelace", role: "admin", disabled: false, created_ms: NOW - 90 * DAY, last_seen_ms: NOW };
export const me = { auth: "accounts", setup_needed: false, signup: "closed", user, csrf: "x", settings: {}, version: "0.1.0", password_length_min: 8 };
export const nobody = { ...me, user: null, csrf: null };

const LONG_TITLE = "这是一个非常长的对话标题，用来检查界面在极端情况下是否仍然整齐 — a title that goes on and on, past every edge, ".repeat(4).slice(0, 300);
const item = (n, title, age, more = {}) => ({
  id: id(n), title, title_source: "model", folder_id: null, pinned: false, archived: false, created_ms: NOW - age, updated_ms: NOW - age, generating: false, unread: false, ...more,
});
const list = [
  item(10, "快速排序与归并排序的比较", 1_000_000, { pinned: true }), item(11, LONG_TITLE, 2_000_000), item(12, "Ferry times and the lighthouse", 4_000_000, { unread: true }),
  item(13, "Refactoring the tokenizer", DAY + 1_000_000, { generating: true }), item(14, "周末旅行计划", DAY * 2), item(15, "Why is the sky blue?", DAY * 4), item(16, "SQL window functions", DAY * 12),
];

const ANSWER = `快速排序的**平均**时间复杂度是 $O(n\\log n)$，最坏情况为 $O(n^2)$。它用一个*基准*把数组分成两半：

\`\`\`python
def quicksort(items: list[int]) -> list[int]:
    """Average O(n log n); the worst case needs a bad pivot every time."""
    if len(items) <= 1:
        return items
    pivot, *rest = items
    return quicksort([x for x in rest if x < pivot]) + [pivot] + quicksort([x for x in rest if x >= pivot])
\`\`\`

## 比较

| 算法 | 平均 | 最坏 | 额外空间 | 稳定 |
| --- | --- | --- | --- | :-: |
| 快速排序 | $n\\log n$ | $n^2$ | $\\log n$ | ✗ |
| 归并排序 | $n\\log n$ | $n\\log n$ | $n$ | ✓ |

1. Choose a **pivot**; a random one makes the worst case unlikely.
2. Partition, then recurse.

> 实际中的库函数常用混合算法，例如 introsort。

$$T(n) = 2\\,T\\!\\left(\\frac n2\\right) + \\Theta(n)$$
`;
const stats = { ttft_ms: 412, duration_ms: 9800, queued_ms: 0, tokens_per_second: 31.4, prompt_tokens: 1287, cached_tokens: 1024, answer_tokens: 308 };
const message = (n, parent, role, text, more = {}) => ({
  id: id(n), parent_id: parent && id(parent), role, text, created_ms: NOW - 1_000_000, status: "done", generation_id: null, model: role === "assistant" ? "qwen2.5-7b-instruct" : null,
  error: null, documents: [], stats: role === "assistant" ? stats : null, ...more,
});
const trees = {
  [id(10)]: [
    message(105, null, "user", "比较两种排序"),
    message(100, null, "user", "请比较快速排序和归并排序，用表格总结，并给出 Python 代码。", { documents: [{ id: id(70), name: "算法导论 第七章.pdf", kind: "pdf", mode: "pages", pages: "1-3", tokens: 1180 }] }),
    message(101, 100, "assistant", ANSWER),
  ],
  [id(11)]: [
    message(110, null, "user", "Write the story of the lighthouse again, and end it differently."),
    message(111, 110, "assistant", "The keeper climbed the 199 steps for the last time that winter, and", { status: "interrupted" }),
    message(112, 111, "user", "Go on."),
    message(113, 112, "assistant", "", { status: "failed", error: { reason: "queue_full", message: "The queue is full." }, stats: null }),
  ],
};
const models = {
  models: [
    { id: "qwen", name: "Qwen2.5-7B-Instruct", context: 32768, state: "ready", progress: 1, phase: "", message: null },
    { id: "llama", name: "Llama-3-8B-Instruct", context: 8192, state: "loading", progress: 0.42, phase: "weights", message: null },
  ],
  defaults: { temperature: 0.7, top_p: 0.8, top_k: 20 }, documents: { pdf: true, docx: true, reason: null, bytes_max: 20 << 20, per_message_max: 10 },
};
const variable = (name, label, type, options = []) => ({ name, label, type, default: "", required: true, options });
const template = (n, command, title, text, variables, shared) => ({ id: id(n), command, title, text, variables, shared, mine: true, editable: true, owner: "Ada Lovelace", created_ms: NOW, updated_ms: NOW });
const templates = [
  template(50, "翻译", "Translate a text 翻译", "Translate into {{language}}: {{text}}", [variable("language", "Language", "select", ["English", "中文"]), variable("text", "Text", "paragraph")], true),
  template(51, "summary", "Summarise in three points", "Summarise the following in three points.\n\n{{text}}", [variable("text", "Text", "paragraph")], false),
];
const users = [
  user, { ...user, id: id(2), email: "grace@example.org", name: "Grace 郭", role: "user", last_seen_ms: NOW - 3_000_000 },
  { ...user, id: id(3), email: "new.colleague@example.org", name: "New Colleague", role: "pending", last_seen_ms: null },
  { ...user, id: id(4), email: "old@example.org", name: "Old Friend", role: "user", disabled: true },
];
const samples = Array.from({ length: 300 }, (_, i) => ({
  t_ms: NOW - (300 - i) * 1000, cpu: 0.5 + 0.4 * Math.sin(i / 20), memory_used: 9e9, memory_total: 24e9, rss: 5.2e9 + i * 1e6, kv_usage: 0.3 + 0.2 * Math.sin(i / 40),
  running: 2 + Math.round(2 * Math.sin(i / 15)), waiting: i % 60 < 10 ? 3 : 0, prompt_tokens_per_second: i % 30 < 4 ? 900 : 0, answer_tokens_per_second: 60 + 20 * Math.sin(i / 9),
  prefix_hit_rate: 0.62, gpus: [],
}));
const documents = [
  { id: id(70), name: "算法导论 第七章.pdf", kind: "pdf", bytes: 1_234_567, status: "ready", error: null, characters: 24_012, tokens: 11_800, pages: 31, encoding: null, warnings: [], created_ms: NOW },
  { id: id(71), name: "scanned letter of 1787.pdf", kind: "pdf", bytes: 534_567, status: "failed", error: { reason: "scanned", message: "" }, characters: null, tokens: null, pages: null, encoding: null, warnings: [], created_ms: NOW },
];
const sessions = [
  { id: id(90), current: true, created_ms: NOW - DAY, last_used_ms: NOW, address: "127.0.0.1", user_agent: "Mozilla/5.0 (X11; Linux x86_64) Chrome/156" },
  { id: id(91), current: false, created_ms: NOW - DAY, last_used_ms: NOW - DAY, address: "192.168.1.20", user_agent: "Mozilla/5.0 (iPhone) Safari/605" },
];
const search = [
  { conversation: list[0], message_id: id(100), snippet: [{ text: "请比较快速", hit: false }, { text: "排序", hit: true }, { text: "和归并", hit: false }, { text: "排序", hit: true }, { text: "，用表格总结", hit: false }] },
  { conversation: list[0], message_id: id(101), snippet: [{ text: "快速", hit: false }, { text: "排序", hit: true }, { text: "的平均时间复杂度是 O(n log n)", hit: false }] },
];

function fit({ documents: attached }) {
  const whole = attached.some((one) => one.mode === "whole");
  return {
    context: 32768, prompt_tokens: whole ? 43_210 : 31_000, answer_room: 1768, fits: !whole, text_tokens: 20,
    documents: attached.map((one) => ({ id: one.id, tokens_whole: 41_234, tokens: one.mode === "whole" ? 41_234 : 29_000 })), choices: ["retrieval", "head_tail", "pages"],
  };
}

function uploaded(query) {
  const scanned = /scan/.test(query.get("name"));
  return {
    id: query.get("id"), name: query.get("name"), kind: "text", bytes: 240_000, status: scanned ? "failed" : "ready", error: scanned ? { reason: "scanned", message: "" } : null, characters: 240_000,
    tokens: 41_234, pages: null, encoding: "UTF-8", warnings: [], created_ms: NOW,
  };
}

/// The answer to a request: [status, body].
export function answer(method, path, query, body, empty = false) {
  const conversation = /^\/conversations\/(\w{32})$/.exec(path)?.[1];
  if (conversation) {
    const found = trees[conversation];
    if (!found) return [404, { error: { status: 404, reason: "not_found", message: "", field: null } }];
    return [200, { conversation: { ...list.find((one) => one.id === conversation), model: null, system_prompt: "", sampling: {}, head_id: found.at(-1).id, draft: null }, messages: found }];
  }
  const shown = empty ? [] : list;
  const answers = {
    "GET /me": me, "GET /models": models, "GET /folders": { folders: [{ id: id(60), name: "学习", position: 0 }] },
    "GET /conversations": { pinned: shown.filter((one) => one.pinned), conversations: shown.filter((one) => !one.pinned), next: null },
    "GET /drafts/new": { draft: null }, "GET /templates": { templates: empty ? [] : templates }, "GET /users": { users, next: null }, "GET /policy": { signup: "closed" },
    "GET /machine": { cpu: { name: "AMD EPYC 7763 64-Core Processor", threads: 16 }, memory_total: 24e9, gpus: [], samples }, "GET /search": { results: search, next: null },
    "GET /documents": { documents: empty ? [] : documents, next: null }, "GET /keys": { keys: [] }, "GET /sessions": { sessions },
  };
  if (method === "POST" && path === "/fit") return [200, fit(body)];
  if (method === "POST" && path === "/documents") return [202, uploaded(query)];
  return [200, answers[`${method} ${path}`] ?? {}];
}

export const ids = { chat: id(10), error: id(11) };
