// Requests to the server: one place that knows the prefix, the CSRF token and the form of errors.
import type { PageDocument } from "./types.ts";

/// What --root-path was; every URL of the page stays below it. (No document outside the browser: the unit tests.)
export const ROOT = globalThis.document?.documentElement.dataset.root ?? "";
export const API = `${ROOT}/chat/api`;

export class ApiError extends Error {
  constructor(
    readonly status: number, readonly reason: string, message: string, readonly field: string | null = null, readonly detail: unknown = null,
    readonly retryAfter: number | null = null,
  ) {
    super(message);
  }
}

let csrf: string | null = null;
let onSignedOut = (): void => {};

export function setCsrf(token: string | null): void {
  csrf = token;
}
/// Called for every 401 "signed_out", whatever was asked.
export function whenSignedOut(callback: () => void): void {
  onSignedOut = callback;
}

/// 32 hexadecimal digits, as the server wants them; works on plain http too, where randomUUID is missing.
export function newId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function toError(response: Response): Promise<ApiError> {
  const retry = Number(response.headers.get("Retry-After"));
  try {
    const { error } = (await response.json()) as { error: { reason: string; message: string; field: string | null; detail?: unknown } };
    return new ApiError(response.status, error.reason, error.message, error.field ?? null, error.detail ?? null, retry || null);
  } catch {
    return new ApiError(response.status, "internal", `HTTP ${response.status}`, null, null, retry || null);
  }
}

async function send(method: string, path: string, body: unknown): Promise<Response> {
  const headers: Record<string, string> = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET" && csrf) headers["X-CSRF-Token"] = csrf;
  try {
    return await fetch(API + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), credentials: "same-origin" });
  } catch {
    throw new ApiError(0, "offline", "The server cannot be reached.");
  }
}

async function call<T>(method: string, path: string, body?: unknown): Promise<T> {
  let response = await send(method, path, body);
  if (response.status === 403) {
    const error = await toError(response);
    if (error.reason !== "csrf") throw error;
    // Another tab signed in anew: take its token and say it once more.
    const me = await send("GET", "/me", undefined);
    if (me.ok) csrf = ((await me.json()) as { csrf: string | null }).csrf;
    response = await send(method, path, body);
  }
  if (!response.ok) {
    const error = await toError(response);
    if (error.reason === "signed_out") onSignedOut();
    throw error;
  }
  return (response.status === 204 ? undefined : await response.json()) as T;
}

export const get = <T>(path: string): Promise<T> => call("GET", path);
export const post = <T>(path: string, body: unknown = {}): Promise<T> => call("POST", path, body);
export const put = <T>(path: string, body: unknown): Promise<T> => call("PUT", path, body);
export const patch = <T>(path: string, body: unknown): Promise<T> => call("PATCH", path, body);
export const del = <T>(path: string): Promise<T> => call("DELETE", path);

export interface Upload { done: Promise<PageDocument>; abort(): void }

/// Sends a file's bytes. XMLHttpRequest, because fetch cannot tell how far an upload is.
export function upload(file: Blob, name: string, id: string, onProgress: (share: number) => void): Upload {
  const request = new XMLHttpRequest();
  const done = new Promise<PageDocument>((resolve, reject) => {
    request.open("POST", `${API}/documents?name=${encodeURIComponent(name)}&id=${id}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    if (csrf) request.setRequestHeader("X-CSRF-Token", csrf);
    request.upload.onprogress = (event) => onProgress(event.lengthComputable ? event.loaded / event.total : 0);
    request.onerror = () => reject(new ApiError(0, "offline", "The server cannot be reached."));
    request.onabort = () => reject(new ApiError(0, "aborted", "Cancelled."));
    request.onload = () => {
      try {
        const body = JSON.parse(request.responseText) as PageDocument & { error: { reason: string; message: string; field: string | null } };
        if (request.status < 400) return resolve(body);
        if (body.error.reason === "signed_out") onSignedOut();
        reject(new ApiError(request.status, body.error.reason, body.error.message, body.error.field));
      } catch {
        reject(new ApiError(request.status, "internal", `HTTP ${request.status}`));
      }
    };
    request.send(file);
  });
  return { done, abort: () => request.abort() };
}

/// A query string out of what is set.
export function query(values: Record<string, string | number | boolean | null | undefined>): string {
  const parts = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== null && value !== undefined && value !== "") parts.set(name, typeof value === "boolean" ? (value ? "1" : "0") : String(value));
  }
  const text = parts.toString();
  return text ? `?${text}` : "";
}
