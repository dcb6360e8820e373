// The objects of docs/chat_api.md, name by name.

export type Role = "admin" | "user" | "pending";
export interface User { id: string; email: string; name: string; role: Role; disabled: boolean; created_ms: number; last_seen_ms: number | null }
export interface Me {
  auth: "accounts" | "none"; setup_needed: boolean; signup: "closed" | "pending" | "open"; user: User | null; csrf: string | null;
  settings: Record<string, unknown>; version: string; password_length_min: number;
}
export interface Folder { id: string; name: string; position: number }
export interface Sampling {
  temperature?: number; top_p?: number; top_k?: number; min_p?: number; repetition_penalty?: number; presence_penalty?: number;
  frequency_penalty?: number; seed?: number; max_tokens?: number; stop?: string[];
}
export interface ListItem {
  id: string; title: string; title_source: "none" | "model" | "user"; folder_id: string | null; pinned: boolean; archived: boolean;
  created_ms: number; updated_ms: number; generating: boolean; unread: boolean;
}
export type Mode = "whole" | "pages" | "head_tail" | "retrieval";
export interface Attachment { id: string; mode: Mode; pages?: string }
export interface Draft { text: string; documents: Attachment[]; updated_ms: number }
export interface Conversation extends ListItem { model: string | null; system_prompt: string; sampling: Sampling; head_id: string | null; draft: Draft | null }
export type Kind = "pdf" | "docx" | "markdown" | "code" | "text";
export interface AttachedDocument { id: string; name: string; kind: Kind; mode: Mode; pages: string | null; tokens: number }
export interface Stats {
  ttft_ms: number; duration_ms: number; queued_ms: number; tokens_per_second: number | null; prompt_tokens: number; cached_tokens: number;
  answer_tokens: number;
}
export type Status = "done" | "generating" | "stopped" | "length" | "interrupted" | "failed";
export interface Message {
  id: string; parent_id: string | null; role: "user" | "assistant"; text: string; created_ms: number; status: Status; generation_id: string | null;
  model: string | null; error: { reason: string; message: string } | null; documents: AttachedDocument[]; stats: Stats | null;
}
export interface Generation { id: string; conversation_id: string; message_id: string; status: "queued" | "running" | Status }
export interface PageDocument {
  id: string; name: string; kind: Kind; bytes: number; status: "extracting" | "ready" | "failed"; error: { reason: string; message: string } | null;
  characters: number | null; tokens: number | null; pages: number | null; encoding: string | null; warnings: string[]; created_ms: number;
}
export interface Variable {
  name: string; label: string; type: "text" | "paragraph" | "number" | "select" | "date" | "checkbox"; default: string; required: boolean; options: string[];
}
export interface Template {
  id: string; command: string; title: string; text: string; variables: Variable[]; shared: boolean; mine: boolean; editable: boolean; owner: string;
  created_ms: number; updated_ms: number;
}
export interface ApiKey {
  id: string; name: string; prefix: string; scopes: ("inference" | "metrics")[]; created_ms: number; last_used_ms: number | null; expires_ms: number | null;
}
export interface LoginSession { id: string; current: boolean; created_ms: number; last_used_ms: number; address: string; user_agent: string }
export interface Model {
  id: string; name: string; context: number | null; state: "loading" | "ready" | "draining" | "stalled" | "failed"; progress: number; phase: string;
  message: string | null;
}
export interface Models {
  models: Model[]; defaults: Sampling; documents: { pdf: boolean; docx: boolean; reason: string | null; bytes_max: number; per_message_max: number };
}
export interface Fit {
  context: number; prompt_tokens: number; answer_room: number; fits: boolean; text_tokens: number;
  documents: { id: string; tokens_whole: number; tokens: number }[]; choices: Mode[];
}
export interface SearchResult { conversation: ListItem; message_id: string | null; snippet: { text: string; hit: boolean }[] }
export interface Gpu { index: number; utilization: number | null; memory_used: number; memory_total: number; power_w: number | null; temperature_c: number | null }
export interface Sample {
  t_ms: number; cpu: number; memory_used: number; memory_total: number; rss: number; kv_usage: number; running: number; waiting: number;
  prompt_tokens_per_second: number; answer_tokens_per_second: number; prefix_hit_rate: number | null; gpus: Gpu[];
}
export interface Machine {
  cpu: { name: string; threads: number }; memory_total: number; gpus: { index: number; name: string; memory_total: number }[]; samples: Sample[];
}
