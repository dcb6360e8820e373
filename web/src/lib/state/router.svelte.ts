// Where the page is: one URL per conversation and per settings page, with the browser's own Back and Forward.
import { ROOT } from "../api/client.ts";

export type Route =
  | { name: "new" }
  | { name: "conversation"; id: string; message: string | null }
  | { name: "settings"; tab: "general" | "account" | "sessions" | "keys" }
  | { name: "templates" }
  | { name: "documents" }
  | { name: "admin"; tab: "users" | "machine" };

const SETTINGS = ["general", "account", "sessions", "keys"] as const;
const ADMIN = ["users", "machine"] as const;

export function parse(path: string, hash = ""): Route {
  const [first, second] = path.replace(/^\/+|\/+$/g, "").split("/");
  if (first === "c" && second && /^[0-9a-f]{32}$/.test(second)) {
    const message = /^#m-([0-9a-f]{32})$/.exec(hash);
    return { name: "conversation", id: second, message: message?.[1] ?? null };
  }
  if (first === "settings") return { name: "settings", tab: SETTINGS.find((tab) => tab === second) ?? "general" };
  if (first === "templates") return { name: "templates" };
  if (first === "documents") return { name: "documents" };
  if (first === "admin") return { name: "admin", tab: ADMIN.find((tab) => tab === second) ?? "users" };
  return { name: "new" };
}

class Router {
  route = $state<Route>({ name: "new" });

  start(): void {
    const read = (): void => {
      this.route = parse(location.pathname.slice(ROOT.length), location.hash);
    };
    window.addEventListener("popstate", read);
    window.addEventListener("hashchange", read);
    read();
  }

  go(path: string, replace = false): void {
    if (replace) history.replaceState(null, "", ROOT + path);
    else history.pushState(null, "", ROOT + path);
    const at = path.indexOf("#");
    this.route = at < 0 ? parse(path) : parse(path.slice(0, at), path.slice(at));
  }
}

export const router = new Router();

/// For <a>: follows the link inside the page, unless the reader wants a new tab or window.
export function follow(event: MouseEvent): void {
  const link = event.currentTarget as HTMLAnchorElement;
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  router.go(link.getAttribute("href")!.slice(ROOT.length));
}

export const href = (path: string): string => ROOT + path;
