// Handlers of /templates: prompts with variables, private or shared, in and out as JSON.
#include <algorithm>

#include <fmt/format.h>

#include "chat/ids.h"
#include "chat/site.h"
#include "chat/template_text.h"
#include "chat/utf8.h"

namespace pagemill::chat {
namespace {

struct Template {
  std::string id, user_id, owner, command, title, text, variables = "[]";
  bool shared = false;
  int64_t created_ms = 0, updated_ms = 0;
};

constexpr std::string_view kColumns = "t.id, t.user_id, (SELECT name FROM users WHERE id = t.user_id), t.command, t.title, t.text, t.variables, t.shared, t.created_ms, t.updated_ms";

Template template_of(const Row& row) {
  return {row.text(0), row.text(1), row.text(2), row.text(3), row.text(4), row.text(5), row.text(6), row.integer(7) != 0, row.integer(8), row.integer(9)};
}

json::array variables_of(const Template& t) {
  auto parsed = parse_json(t.variables);
  return parsed && parsed->is_array() ? std::move(parsed->get_array()) : json::array{};
}

bool editable(const Call& call, const Template& t) { return t.user_id == call.user_id() || (t.shared && call.is_admin()); }

json::object template_json(const Call& call, const Template& t) {
  return {{"id", t.id}, {"command", t.command}, {"title", t.title}, {"text", t.text}, {"variables", variables_of(t)}, {"shared", t.shared}, {"mine", t.user_id == call.user_id()},
          {"editable", editable(call, t)}, {"owner", t.owner}, {"created_ms", t.created_ms}, {"updated_ms", t.updated_ms}};
}

/// Mine, or shared.
Outcome<Template> visible(Database& db, const Call& call, const std::string& id) {
  std::optional<Template> found;
  PM_TRY(db.each(fmt::format("SELECT {} FROM templates t WHERE t.id = ? AND (t.user_id = ? OR t.shared = 1)", kColumns), [&](const Row& row) { found = template_of(row); }, id, call.user_id()));
  if (!found) return missing("This template");
  return std::move(*found);
}

Outcome<Template> changeable(Database& db, const Call& call, const std::string& id) {
  PM_ASSIGN(Template t, visible(db, call, id));
  if (!editable(call, t)) return refuse(403, "not_allowed", "Only its owner or an admin may change this template.");
  return t;
}

// ---- reading ----

Outcome<void> check_command(std::string_view command) {
  size_t chars = 0;
  bool good = !command.empty();
  for (size_t at = 0; at < command.size(); ++chars) {
    const char32_t c = next_code_point(command, at);
    good = good && ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || (c >= 0x3041 && c <= 0x30FF) || (c >= 0x3400 && c <= 0x9FFF) || (c >= 0xAC00 && c <= 0xD7AF));
  }
  if (!good || chars > 40) return refuse(400, "invalid_argument", "'command' must have 1 to 40 of a–z, 0–9, _, - and Chinese, Japanese or Korean characters.", "command");
  return {};
}

Outcome<json::object> read_variable(const json::value& value) {
  if (!value.is_object()) return refuse(400, "invalid_argument", "'variables' must hold objects.", "variables");
  Fields fields(value.get_object());
  PM_ASSIGN(const std::string name, fields.required_text("name", 120));
  PM_ASSIGN(const auto label, fields.text("label", 400));
  PM_ASSIGN(const auto type, fields.text("type", 16));
  PM_ASSIGN(const auto otherwise, fields.text("default", 8'192));
  PM_ASSIGN(const auto required, fields.boolean("required"));
  PM_ASSIGN(const json::array* options, fields.array("options", 100));
  PM_TRY(fields.done());
  constexpr std::string_view kTypes[] = {"text", "paragraph", "number", "select", "date", "checkbox"};
  if (type && std::find(std::begin(kTypes), std::end(kTypes), *type) == std::end(kTypes)) return refuse(400, "invalid_argument", "'type' must be text, paragraph, number, select, date or checkbox.", "variables");
  if (variables_in("{{" + name + "}}") != std::vector{name} || is_system_variable(name)) return refuse(400, "invalid_argument", fmt::format("'{}' cannot be a variable's name.", utf8_prefix(name, 60)), "variables");
  json::array choices;
  if (options)
    for (const json::value& one : *options) {
      if (!one.is_string() || one.get_string().size() > 400) return refuse(400, "invalid_argument", "'options' must hold short texts.", "variables");
      choices.push_back(one);
    }
  if (type == "select" && choices.empty()) return refuse(400, "invalid_argument", "A variable of type select needs 'options'.", "variables");
  return json::object{{"name", name}, {"label", label.value_or("")}, {"type", type.value_or("text")}, {"default", otherwise.value_or("")}, {"required", required.value_or(false)}, {"options", std::move(choices)}};
}

/// Described variables, and plain ones for those of the text that are not.
Outcome<std::string> read_variables(const json::array* list, std::string_view text) {
  json::array variables;
  std::vector<std::string> described;
  if (list)
    for (const json::value& one : *list) {
      PM_ASSIGN(json::object variable, read_variable(one));
      std::string name(variable.at("name").get_string());
      if (std::find(described.begin(), described.end(), name) != described.end()) return refuse(400, "invalid_argument", fmt::format("The variable '{}' is described twice.", name), "variables");
      described.push_back(std::move(name));
      variables.push_back(std::move(variable));
    }
  for (const std::string& name : variables_in(text))
    if (!is_system_variable(name) && std::find(described.begin(), described.end(), name) == described.end())
      variables.push_back(json::object{{"name", name}, {"label", ""}, {"type", "text"}, {"default", ""}, {"required", false}, {"options", json::array{}}});
  if (variables.size() > limits::kChatTemplateVariables) return refuse(400, "invalid_argument", fmt::format("A template has {} variables at most.", limits::kChatTemplateVariables), "variables");
  return json::serialize(variables);
}

/// Reads what is there into `t`; with `whole`, command, title and text must be.
Outcome<void> read_template(const json::object& body, Template& t, bool whole) {
  Fields fields(body);
  PM_ASSIGN(const auto command, fields.text("command", 400));
  PM_ASSIGN(const auto title, fields.text("title", 1'200));
  PM_ASSIGN(const auto text, fields.text("text", limits::kChatTemplateBytes));
  PM_ASSIGN(const json::array* variables, fields.array("variables", limits::kChatTemplateVariables));
  PM_ASSIGN(const auto shared, fields.boolean("shared"));
  PM_TRY(fields.done());
  for (const auto& [name, value] : {std::pair("command", &command), std::pair("title", &title), std::pair("text", &text)})
    if (whole && !*value) return refuse(400, "missing_field", fmt::format("'{}' is missing.", name), name);
  t.command = command.value_or(t.command);
  t.title = title.value_or(t.title);
  t.text = text.value_or(t.text);
  t.shared = shared.value_or(t.shared);
  PM_TRY(check_command(t.command));
  PM_TRY(check_text(t.title, "title", 1, limits::kChatTitleChars));
  if (t.text.empty()) return refuse(400, "invalid_argument", "'text' must not be empty.", "text");
  const json::array kept = variables_of(t);
  PM_ASSIGN(t.variables, read_variables(variables ? variables : &kept, t.text));
  return {};
}

// ---- writing ----

Outcome<bool> command_taken(Database& db, const Template& t) {
  PM_ASSIGN(const auto count, db.integer("SELECT COUNT(*) FROM templates WHERE user_id = ? AND command = ? AND id <> ?", t.user_id, t.command, t.id));
  return count.value_or(0) > 0;
}

Outcome<void> insert(Database& db, const Template& t) {
  PM_ASSIGN(const auto count, db.integer("SELECT COUNT(*) FROM templates WHERE user_id = ?", t.user_id));
  if (count.value_or(0) >= static_cast<int64_t>(limits::kChatTemplates)) return refuse(429, "quota", fmt::format("There can be {} templates.", limits::kChatTemplates));
  PM_TRY(db.run("INSERT INTO templates(id, user_id, command, title, text, variables, shared, created_ms, updated_ms) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)", t.id, t.user_id, t.command, t.title, t.text, t.variables, t.shared, t.created_ms, t.updated_ms));
  return {};
}

Outcome<void> update(Database& db, const Template& t) {
  PM_TRY(db.run("UPDATE templates SET command = ?, title = ?, text = ?, variables = ?, shared = ?, updated_ms = ? WHERE id = ?", t.command, t.title, t.text, t.variables, t.shared, now_ms(), t.id));
  return {};
}

void tell(Call& call, bool shared) {
  const json::object data{{"what", "templates"}};
  if (shared) call.site.hub.publish_all("changed", data);
  else call.site.hub.publish(call.user_id(), "changed", data);
}

tl::unexpected<Problem> taken(const std::string& command) { return refuse(409, "command_taken", fmt::format("There is a template /{} already.", command), "command"); }

// ---- handlers ----

Outcome<std::vector<Template>> all_visible(Call& call, bool mine_only) {
  return call.site.store->read([&](Database& db) -> Outcome<std::vector<Template>> {
    std::vector<Template> found;
    PM_TRY(db.each(fmt::format("SELECT {} FROM templates t WHERE t.user_id = ?1 OR (t.shared = 1 AND ?2 = 0) ORDER BY t.command, t.id", kColumns), [&](const Row& row) { found.push_back(template_of(row)); }, call.user_id(), mine_only));
    return found;
  });
}

Outcome<Reply> get_templates(Call& call) {
  PM_ASSIGN(const auto found, all_visible(call, false));
  json::array templates;
  for (const Template& t : found) templates.push_back(template_json(call, t));
  return reply(json::object{{"templates", std::move(templates)}});
}

Template fresh(const Call& call) {
  Template t;
  t.id = new_id();
  t.user_id = call.user_id();
  t.owner = call.user().name;
  t.created_ms = t.updated_ms = now_ms();
  return t;
}

Outcome<Reply> post_template(Call& call) {
  Template t = fresh(call);
  PM_TRY(read_template(call.body, t, true));
  PM_TRY(call.site.store->write([&](Database& db) -> Outcome<void> {
    PM_ASSIGN(const bool is_taken, command_taken(db, t));
    if (is_taken) return taken(t.command);
    return insert(db, t);
  }));
  tell(call, t.shared);
  return reply(template_json(call, t), 201);
}

Outcome<Reply> patch_template(Call& call) {
  bool was_shared = false;
  PM_ASSIGN(const Template t, call.site.store->write([&](Database& db) -> Outcome<Template> {
    PM_ASSIGN(Template changed, changeable(db, call, call.ids[0]));
    was_shared = changed.shared;
    PM_TRY(read_template(call.body, changed, false));
    PM_ASSIGN(const bool is_taken, command_taken(db, changed));
    if (is_taken) return taken(changed.command);
    PM_TRY(update(db, changed));
    return changed;
  }));
  tell(call, t.shared || was_shared);
  return reply(template_json(call, t));
}

Outcome<Reply> delete_template(Call& call) {
  PM_ASSIGN(const Template t, call.site.store->write([&](Database& db) -> Outcome<Template> {
    PM_ASSIGN(Template gone, changeable(db, call, call.ids[0]));
    PM_TRY(db.run("DELETE FROM templates WHERE id = ?", gone.id));
    return gone;
  }));
  tell(call, t.shared);
  return no_content();
}

Outcome<Reply> post_render(Call& call) {
  Fields fields(call.body);
  PM_ASSIGN(const json::object* values, fields.object("values"));
  PM_ASSIGN(const auto timezone, fields.text("timezone", 64));
  PM_ASSIGN(const auto language, fields.text("language", 35));
  PM_TRY(fields.done());
  PM_ASSIGN(const Template t, call.site.store->read([&](Database& db) { return visible(db, call, call.ids[0]); }));
  const json::object none;
  Fields given(values ? *values : none);
  std::vector<std::pair<std::string, std::string>> filled;
  for (const json::value& one : variables_of(t)) {
    const json::object& variable = one.get_object();
    const std::string name(variable.at("name").get_string());
    PM_ASSIGN(auto value, given.text(name, limits::kChatMessageBytes / 2));
    if (!value || value->empty()) value = std::string(variable.at("default").get_string());
    if (value->empty() && variable.at("required").get_bool()) return refuse(400, "missing_field", fmt::format("'{}' needs a value.", name), name);
    filled.emplace_back(name, std::move(*value));
  }
  PM_ASSIGN(const auto clipboard, given.text("CLIPBOARD", limits::kChatMessageBytes / 2));
  PM_TRY(given.done());
  const SystemValues system{call.user().name, call.user().email, language.value_or(""), timezone.value_or(""), now_ms()};
  std::string text = fill_in(t.text, [&](const std::string& name) -> std::optional<std::string> {
    if (name == "CLIPBOARD") return clipboard.value_or("");
    for (const auto& [known, value] : filled)
      if (known == name) return value;
    return system_value(name, system);
  });
  if (text.size() > limits::kChatMessageBytes) return refuse(413, "too_large", "The message would be too long.");
  return reply(json::object{{"text", std::move(text)}});
}

Outcome<Reply> get_export(Call& call) {
  PM_ASSIGN(const auto mine, all_visible(call, true));
  json::array templates;
  for (const Template& t : mine) templates.push_back(json::object{{"command", t.command}, {"title", t.title}, {"text", t.text}, {"variables", variables_of(t)}, {"shared", t.shared}});
  Reply answer = reply(json::object{{"pagemill_templates", 1}, {"templates", std::move(templates)}});
  answer.headers.emplace_back("Content-Disposition", "attachment; filename=\"pagemill-templates.json\"");
  return answer;
}

struct Imported {
  int64_t created = 0, replaced = 0, renamed = 0, skipped = 0;
};

Outcome<void> import_one(Database& db, Template t, std::string_view on_conflict, Imported& counts) {
  PM_ASSIGN(const bool is_taken, command_taken(db, t));
  if (!is_taken) return ++counts.created, insert(db, t);
  if (on_conflict == "skip") return ++counts.skipped, Outcome<void>();
  if (on_conflict == "replace") {
    PM_ASSIGN(const auto id, db.text("SELECT id FROM templates WHERE user_id = ? AND command = ?", t.user_id, t.command));
    t.id = id.value_or(t.id);
    return ++counts.replaced, update(db, t);
  }
  const std::string base = t.command;
  for (int number = 2;; ++number) {
    t.command = fmt::format("{}-{}", base, number);
    PM_ASSIGN(const bool still, command_taken(db, t));
    if (!still) break;
  }
  return ++counts.renamed, insert(db, t);
}

Outcome<Reply> post_import(Call& call) {
  Fields fields(call.body);
  PM_ASSIGN(const auto version, fields.integer("pagemill_templates", 1, 1));
  PM_ASSIGN(const json::array* list, fields.array("templates", limits::kChatTemplates));
  PM_ASSIGN(const auto conflict, fields.text("on_conflict", 16));
  PM_TRY(fields.done());
  if (!version || !list) return refuse(400, "invalid_argument", "This is no file of templates: it must have \"pagemill_templates\": 1 and \"templates\".", "templates");
  const std::string on_conflict = conflict.value_or("skip");
  if (on_conflict != "skip" && on_conflict != "rename" && on_conflict != "replace") return refuse(400, "invalid_argument", "'on_conflict' must be skip, rename or replace.", "on_conflict");
  std::vector<Template> templates;
  bool any_shared = false;
  for (const json::value& one : *list) {
    Template t = fresh(call);
    if (!one.is_object()) return refuse(400, "invalid_argument", "'templates' must hold objects.", "templates");
    if (auto read = read_template(one.get_object(), t, true); !read) {
      Problem problem = read.error();
      problem.message = fmt::format("Template {}: {}", templates.size() + 1, problem.message);
      return tl::unexpected(std::move(problem));
    }
    any_shared |= t.shared;
    templates.push_back(std::move(t));
  }
  PM_ASSIGN(const Imported counts, call.site.store->write([&](Database& db) -> Outcome<Imported> {
    Imported counted;
    for (const Template& t : templates) PM_TRY(import_one(db, t, on_conflict, counted));
    return counted;
  }));
  tell(call, any_shared);
  return reply(json::object{{"created", counts.created}, {"replaced", counts.replaced}, {"renamed", counts.renamed}, {"skipped", counts.skipped}});
}

}  // namespace

std::vector<Route> template_routes() {
  return {
      {"GET", "/templates", Access::user, BodyKind::none, get_templates},
      {"POST", "/templates", Access::user, BodyKind::json, post_template},
      {"GET", "/templates/export", Access::user, BodyKind::none, get_export},
      {"POST", "/templates/import", Access::user, BodyKind::json, post_import, limits::kChatMessageBodyBytes},
      {"PATCH", "/templates/{}", Access::user, BodyKind::json, patch_template},
      {"DELETE", "/templates/{}", Access::user, BodyKind::none, delete_template},
      {"POST", "/templates/{}/render", Access::user, BodyKind::json, post_render, limits::kChatMessageBodyBytes},
  };
}

}  // namespace pagemill::chat
