// Titles: a short name for a conversation after its first answer, by the model itself, behind everybody's answers.
#pragma once

#include <string>
#include <string_view>

namespace pagemill::chat {

struct JobEnd;
struct Site;

/// On the jobs' thread, when an answer has been written down: tells the tabs about the conversation, and asks for a title where there is none.
void after_answer(Site& site, const JobEnd& end);

/// A model's answer as a title: the first line without quotes, "Title:", Markdown or a block of reasoning; at most 100 characters. Empty where
/// nothing is left.
std::string clean_title(std::string_view answer);
/// Where the model gives none: the beginning of the first message.
std::string fallback_title(std::string_view message);

}  // namespace pagemill::chat
