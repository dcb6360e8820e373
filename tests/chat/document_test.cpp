// Documents over HTTP: read in a confined child, counted, cut to fit; hostile files end as an error of their own.
#include <fstream>

#include "chat/docx.h"
#include "chat/extractor.h"
#include "chat_fixture.h"
#include "document_files.h"
#include "text/tokenizer.h"

namespace pagemill::test {
namespace {

std::string reason_of(const json::value& document) { return document.at("error").is_object() ? std::string(document.at("error").at("reason").as_string()) : std::string(document.at("status").as_string()); }

class ChatDocumentTest : public ChatTest {
 protected:
  /// Uploads and waits: "ready", or the reason why not.
  std::string read(Browser& b, const std::string& name, const std::string& bytes) {
    const Answer sent = b.upload(name, bytes);
    EXPECT_EQ(sent.status, 202) << sent.body;
    last = b.wait_for_document(sent.text("id"));
    return reason_of(last);
  }
  std::string id() const { return std::string(last.at("id").as_string()); }
  std::string text(Browser& b) { return b.get("/documents/" + id() + "/text").text("text"); }
  json::value last;
};

TEST(ExtractorSandbox, ItsInsideReachesNothing) {
  const chat::SandboxProbe probe = chat::probe_sandbox(PAGEMILL_EXTRACTOR);
  ASSERT_TRUE(probe.confined) << json::serialize(probe.seen) << probe.reason;
  for (const char* forbidden : {"socket", "passwd", "self", "writes", "forks", "executes"}) EXPECT_FALSE(probe.seen.at(forbidden).as_bool()) << forbidden;
}

TEST_F(ChatDocumentTest, TextsOfManyEncodings) {
  start();
  Browser b = admin();
  EXPECT_EQ(read(b, "a.txt", "plain\r\ntext\n"), "ready");
  EXPECT_EQ(text(b), "plain\ntext\n");
  EXPECT_EQ(last.at("tokens").to_number<size_t>(), test_text_model()->tokenizer().encode("plain\ntext\n")->size());
  EXPECT_EQ(read(b, "notes.md", "# Überschrift\n\nText"), "ready");
  EXPECT_EQ(last.at("kind").as_string(), "markdown");
  // 排序算法是计算机科学中的基本问题，很多程序都要用到。
  const std::string gb = "\xC5\xC5\xD0\xF2\xCB\xE3\xB7\xA8\xCA\xC7\xBC\xC6\xCB\xE3\xBB\xFA\xBF\xC6\xD1\xA7\xD6\xD0\xB5\xC4\xBB\xF9\xB1\xBE\xCE\xCA\xCC\xE2\xA3\xAC\xBA\xDC\xB6\xE0\xB3\xCC\xD0\xF2\xB6\xBC\xD2\xAA\xD3\xC3\xB5\xBD\xA1\xA3";
  EXPECT_EQ(read(b, "gb.txt", gb), "ready");
  EXPECT_EQ(text(b), "排序算法是计算机科学中的基本问题，很多程序都要用到。");
  EXPECT_EQ(last.at("encoding").as_string(), "GB18030");
  EXPECT_EQ(read(b, "u16.txt", std::string("\xFF\xFEh\0i\0\x92\x63", 8)), "ready");
  EXPECT_EQ(text(b), "hi排");
  EXPECT_EQ(read(b, "x.txt", std::string("\x7F" "ELF\0\0\0\1\2\3", 10)), "binary");
  EXPECT_EQ(read(b, "x.txt", "   \n"), "empty");
  EXPECT_EQ(b.upload("x.txt", "").status, 400);
}

TEST_F(ChatDocumentTest, PdfsByPages) {
  start();
  Browser b = admin();
  if (!chat::probe_sandbox(PAGEMILL_EXTRACTOR).pdf) GTEST_SKIP() << "pdftotext is not installed";
  EXPECT_EQ(read(b, "two.pdf", make_pdf({"First page says alpha", "Second page says beta"})), "ready") << json::serialize(last);
  EXPECT_EQ(last.at("pages").to_number<int>(), 2);
  EXPECT_EQ(last.at("kind").as_string(), "pdf");
  EXPECT_NE(text(b).find("alpha"), std::string::npos);
  const std::string conversation = b.new_conversation();
  const json::value answer = b.ask(conversation, "What does it say?", nullptr, json::array{json::object{{"id", id()}, {"mode", "pages"}, {"pages", "2"}}});
  const std::string said(answer.at("text").as_string());
  EXPECT_NE(said.find("beta"), std::string::npos) << said;
  EXPECT_EQ(said.find("alpha"), std::string::npos) << said;
  EXPECT_NE(said.find("two.pdf"), std::string::npos);
  const Answer wrong = b.post("/fit", {{"conversation_id", nullptr}, {"parent_id", nullptr}, {"text", "x"}, {"documents", json::array{json::object{{"id", id()}, {"mode", "pages"}, {"pages", "3"}}}}});
  EXPECT_EQ(wrong.status, 400);
  EXPECT_EQ(read(b, "scan.pdf", make_pdf({""})), "scanned");
  EXPECT_EQ(read(b, "broken.pdf", "%PDF-1.7\nnothing else"), "damaged");
  EXPECT_EQ(read(b, "cut.pdf", make_pdf({"alpha"}).substr(0, 200)), "damaged");
  EXPECT_EQ(read(b, "secret.pdf", make_encrypted_pdf()), "encrypted");
  const std::string looped = reason_of((read(b, "loop.pdf", make_looping_pdf()), last));
  EXPECT_TRUE(looped == "damaged" || looped == "scanned" || looped == "timeout") << looped;
  EXPECT_EQ(b.get("/me").status, 200);
}

TEST_F(ChatDocumentTest, WordDocuments) {
  start();
  Browser b = admin();
  EXPECT_EQ(read(b, "a.docx", make_docx(R"(<w:p><w:pPr><w:pStyle w:val="Heading1"/></w:pPr><w:r><w:t>标题</w:t></w:r></w:p><w:p><w:r><w:t xml:space="preserve">Kept </w:t></w:r><w:del><w:r><w:delText>gone</w:delText></w:r></w:del><w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r><w:r><w:t>text &lt;b&gt;</w:t></w:r></w:p><w:tbl><w:tr><w:tc><w:p><w:r><w:t>a</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>b</w:t></w:r></w:p></w:tc></w:tr></w:tbl>)")), "ready")
      << json::serialize(last);
  const std::string said = text(b);
  EXPECT_NE(said.find("# 标题"), std::string::npos) << said;
  EXPECT_NE(said.find("Kept text <b>"), std::string::npos) << said;
  EXPECT_NE(said.find("| a | b |"), std::string::npos) << said;
  EXPECT_EQ(said.find("gone"), std::string::npos);
  EXPECT_EQ(said.find("hidden"), std::string::npos);
  EXPECT_EQ(last.at("warnings").as_array().size(), 1u);
  EXPECT_EQ(last.at("kind").as_string(), "docx");
  EXPECT_EQ(read(b, "old.doc", std::string("\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", 8) + std::string(600, '\0')), "legacy_doc");
  EXPECT_EQ(read(b, "locked.docx", std::string("\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", 8) + std::string("E\0n\0c\0r\0y\0p\0t\0e\0d\0P\0a\0c\0k\0a\0g\0e\0", 32)), "encrypted");
  EXPECT_EQ(read(b, "x.zip", make_zip({{"a.txt", "hello"}})), "unsupported_type");
}

TEST_F(ChatDocumentTest, HostileArchivesAndXml) {
  start();
  Browser b = admin();
  const std::string body = "<w:p><w:r><w:t>x</w:t></w:r></w:p>";
  EXPECT_EQ(read(b, "bomb.docx", make_docx("<w:p>" + std::string(70 << 20, ' ') + "</w:p>")), "bomb");
  std::vector<std::pair<std::string, std::string>> many{{"[Content_Types].xml", "<x/>"}};
  for (int i = 0; i < 2'500; ++i) many.emplace_back("word/e" + std::to_string(i), "x");
  EXPECT_EQ(read(b, "many.docx", make_zip(many)), "bomb");
  EXPECT_EQ(read(b, "xxe.docx", make_zip({{"[Content_Types].xml", "<x/>"}, {"word/document.xml", "<?xml version=\"1.0\"?><!DOCTYPE d [<!ENTITY e SYSTEM \"file:///etc/passwd\">]><w:document xmlns:w=\"w\"><w:body><w:p><w:r><w:t>&e;</w:t></w:r></w:p></w:body></w:document>"}})), "damaged");
  std::string laughs = "<!DOCTYPE d [<!ENTITY a \"ha\">";
  for (char c = 'b'; c < 'z'; ++c) laughs += std::string("<!ENTITY ") + c + " \"&" + static_cast<char>(c - 1) + ";&" + static_cast<char>(c - 1) + ";&" + static_cast<char>(c - 1) + ";\">";
  EXPECT_EQ(read(b, "laughs.docx", make_zip({{"[Content_Types].xml", "<x/>"}, {"word/document.xml", laughs + "]><w:t>&y;</w:t>"}})), "damaged");
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "<w:x>";
  for (int i = 0; i < 100'000; ++i) deep += "</w:x>";
  EXPECT_EQ(read(b, "deep.docx", make_docx(deep)), "bomb");
  EXPECT_EQ(read(b, "cut.docx", make_docx(body).substr(0, 300)), "damaged");
  // An entry that would leave its folder is never written anywhere; the rest is read.
  EXPECT_EQ(read(b, "slip.docx", make_zip({{"[Content_Types].xml", "<x/>"}, {"../../../../tmp/pagemill-slip", "x"}, {"word/document.xml", "<w:document xmlns:w=\"w\"><w:body>" + body + "</w:body></w:document>"}})), "ready");
  EXPECT_FALSE(std::filesystem::exists("/tmp/pagemill-slip"));
  EXPECT_EQ(b.get("/me").status, 200);
}

/// Offsets of a ZIP's central directory entries.
std::vector<size_t> central_entries(const std::string& zip) {
  std::vector<size_t> all;
  for (size_t at = zip.find("PK\x01\x02"); at != std::string::npos; at = zip.find("PK\x01\x02", at + 4)) all.push_back(at);
  return all;
}

TEST_F(ChatDocumentTest, ArchivesThatLie) {
  start();
  Browser b = admin();
  const std::string good = make_docx("<w:p><w:r><w:t>x</w:t></w:r></w:p>");
  const std::vector<size_t> entries = central_entries(good);
  ASSERT_EQ(entries.size(), 2u);
  std::string claims = good;  // 4 GB unpacked, says the directory: nothing is allocated on its word
  claims.replace(entries[1] + 24, 4, "\xFF\xFF\xFF\xFF");
  EXPECT_EQ(read(b, "claims.docx", claims), "ready");
  std::string overlap = good;  // both entries claim the whole file
  for (const size_t at : entries) overlap.replace(at + 20, 4, std::string{static_cast<char>(good.size() & 0xFF), static_cast<char>(good.size() >> 8), 0, 0});
  EXPECT_EQ(read(b, "overlap.docx", overlap), "bomb");
  std::string beyond = good;  // begins behind the end
  beyond.replace(entries[1] + 42, 4, "\xF0\xFF\xFF\x7F");
  EXPECT_EQ(read(b, "beyond.docx", beyond), "damaged");
  EXPECT_EQ(read(b, "nested.docx", make_zip({{"[Content_Types].xml", "<x/>"}, {"word/document.xml", good}})), "damaged");
}

TEST_F(ChatDocumentTest, WordPartsThatHideSomething) {
  start();
  Browser b = admin();
  const std::string document = R"(<w:document xmlns:w="w" xmlns:r="r"><w:body><w:altChunk r:id="rId9"/><w:p><w:hyperlink r:id="rId8"><w:r><w:t>the link's text</w:t></w:r></w:hyperlink></w:p></w:body></w:document>)";
  const std::string relations = R"x(<Relationships><Relationship Id="rId8" Type="hyperlink" Target="javascript:alert(1)" TargetMode="External"/><Relationship Id="rId9" Type="aFChunk" Target="evil.html"/></Relationships>)x";
  ASSERT_EQ(read(b, "chunk.docx", make_zip({{"[Content_Types].xml", "<x/>"}, {"word/document.xml", document}, {"word/_rels/document.xml.rels", relations}, {"word/evil.html", "<script>alert(2)</script>"}})), "ready");
  const std::string said = text(b);
  EXPECT_NE(said.find("the link's text"), std::string::npos) << said;
  EXPECT_EQ(said.find("javascript"), std::string::npos) << said;
  EXPECT_EQ(said.find("script"), std::string::npos) << said;
}

TEST_F(ChatDocumentTest, AReaderThatWasTakenOverHarmsNobody) {
  std::filesystem::create_directories(data_dir_);
  const std::filesystem::path stub = data_dir_ / "reader";
  options.chat.extractor = stub;
  const std::vector<std::pair<std::string, std::string>> stubs{{"kill -SEGV $$", "damaged"}, {"exit 1", "damaged"}, {"echo '[]'", "damaged"}, {"echo '{}'", "damaged"}, {"echo '{\"error\":5}'", "damaged"},
                                                               {"echo '{\"error\":{\"reason\":[],\"message\":null}}'", "damaged"}, {R"(echo '{"kind":"text","text":7,"encoding":"UTF-8","warnings":[]}')", "damaged"},
                                                               {R"(echo '{"kind":"exe","text":"x","encoding":"UTF-8","warnings":[]}')", "damaged"}, {R"(echo '{"kind":"text","text":"x","encoding":"UTF-8","warnings":[{}]}')", "damaged"},
                                                               {"yes", "too_large"}};
  start();
  Browser b = admin();
  for (const auto& [body, reason] : stubs) {
    std::ofstream(stub) << "#!/bin/sh\n" << body << "\n";
    std::filesystem::permissions(stub, std::filesystem::perms::owner_all);
    EXPECT_EQ(read(b, "x.txt", "text"), reason) << body;
  }
  EXPECT_EQ(b.get("/me").status, 200);
}

TEST_F(ChatDocumentTest, HostileNamesAreShownAndNeverUsed) {
  start();
  Browser b = admin();
  const std::vector<std::pair<std::string, std::string>> names{{"pwn.html", "pwn.html"}, {"pwn.svg", "pwn.svg"}, {"pwn.xhtml", "pwn.xhtml"}, {"..%2F..%2Fetc%2Fpasswd", "passwd"}, {"%2Fetc%2Fpasswd", "passwd"}, {"CON", "CON"}, {".htaccess", ".htaccess"}, {"a%E2%80%AEgpj.exe", "agpj.exe"}, {"..%5C..%5Cwindows.ini", "windows.ini"},
                                                               {"%3Cimg%20src=x%3E.txt", "<img src=x>.txt"}, {"a%0D%0ASet-Cookie:%20x=y", "aSet-Cookie: x=y"}};
  for (const auto& [sent, shown] : names) {
    const std::string bytes = "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>";
    const Answer answer = b.upload(sent, bytes);
    ASSERT_EQ(answer.status, 202) << sent << answer.body;
    EXPECT_EQ(answer.text("name"), shown);
    const Answer file = b.get("/documents/" + answer.text("id") + "/file");
    EXPECT_EQ(file.body, bytes);
    EXPECT_EQ(file.header("X-Content-Type-Options"), "nosniff");
    EXPECT_EQ(file.header("Content-Type"), "application/octet-stream");
    EXPECT_TRUE(file.header("Content-Disposition").starts_with("attachment;"));
    EXPECT_NE(file.header("Content-Security-Policy").find("sandbox"), std::string::npos);
    EXPECT_TRUE(file.header("Set-Cookie").empty());
  }
  EXPECT_EQ(b.upload(std::string(4'096, 'a'), "text").status, 400);
  EXPECT_EQ(b.upload("", "text").status, 400);
  EXPECT_EQ(b.upload("a%00b.txt", "text").status, 400);
  for (const auto& entry : std::filesystem::directory_iterator(data_dir_ / "files")) EXPECT_TRUE(chat::is_id(entry.path().filename().string())) << entry.path();
  EXPECT_EQ(b.send("POST", "/chat/api/documents?name=big", std::string((20 << 20) + 1, 'x'), {}, "application/octet-stream").reason(), "too_large");
}

TEST_F(ChatDocumentTest, AMillionCharactersAndWhatFits) {
  options.engine.model = test_model_info(4'096);
  start();
  Browser b = admin();
  std::string long_text;
  for (int i = 0; long_text.size() < 1'000'000; ++i) long_text += "Line " + std::to_string(i) + " is about nothing in particular and ends here.\n";
  long_text.insert(500'000, "\nThe password of the safe is turquoise elephant.\n");
  EXPECT_EQ(read(b, "long.txt", long_text), "ready");
  EXPECT_GT(last.at("tokens").to_number<int>(), 100'000);
  const std::string conversation = b.new_conversation();
  const auto with = [&](const char* mode) { return json::array{json::object{{"id", id()}, {"mode", mode}}}; };
  const Answer whole = b.post("/conversations/" + conversation + "/messages", {{"parent_id", nullptr}, {"text", "What is the password of the safe?"}, {"documents", with("whole")}});
  EXPECT_EQ(whole.reason(), "context_too_long");
  json::array choices = whole["error"].at("detail").at("choices").as_array();
  EXPECT_EQ(json::serialize(choices), R"(["pages","head_tail","retrieval"])");
  for (const char* mode : {"head_tail", "retrieval"}) {
    const Answer fit = b.post("/fit", {{"conversation_id", conversation}, {"parent_id", nullptr}, {"text", "What is the password of the safe?"}, {"documents", with(mode)}});
    EXPECT_TRUE(fit["fits"].as_bool()) << mode << fit.body;
    EXPECT_GT(fit["prompt_tokens"].to_number<int>(), 2'000) << mode;
  }
  const Answer sent = b.post("/conversations/" + conversation + "/messages", {{"parent_id", nullptr}, {"text", "What is the password of the safe?"}, {"documents", with("retrieval")}, {"generate", false}});
  ASSERT_EQ(sent.status, 201) << sent.body;
  const auto kept = server->site->store->read([&](chat::Database& db) { return db.text("SELECT text FROM excerpts"); });
  ASSERT_TRUE(kept && *kept);
  EXPECT_NE((*kept)->find("turquoise elephant"), std::string::npos);
  // What was sent stays when the document goes.
  EXPECT_EQ(b.del("/documents/" + id()).status, 204);
  const Answer later = b.get("/conversations/" + conversation);
  EXPECT_EQ(later["messages"].as_array()[0].at("documents").as_array()[0].at("name").as_string(), "long.txt");
}

}  // namespace
}  // namespace pagemill::test
