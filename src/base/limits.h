// Every bound in one place. What a file or a request may ask for is compared with these before anything is allocated.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pagemill::limits {

// Model files.
inline constexpr uint64_t kGgufTensors = 65'536;
inline constexpr uint64_t kGgufMetadataKeys = 65'536;
inline constexpr uint64_t kGgufMetadataBytes = 256u << 20;
inline constexpr uint64_t kGgufKeyBytes = 65'535;
inline constexpr uint64_t kGgufArrayElements = 4'194'304;  // of all arrays together
inline constexpr uint64_t kGgufSplits = 1'024;
inline constexpr uint64_t kGgufTensorNameBytes = 63;
inline constexpr uint64_t kGgufStringBytes = 64u << 20;
inline constexpr uint64_t kLoadSlackBytes = 64u << 20;  // what reading a file may allocate beyond the file's own size
inline constexpr int64_t kTensorElements = int64_t{1} << 40;
inline constexpr int32_t kModelLayers = 1'024;
inline constexpr int32_t kModelVocab = 1'048'576;
inline constexpr int32_t kModelHidden = 262'144;
inline constexpr int32_t kModelHeads = 1'024;
inline constexpr int32_t kModelContext = 16'777'216;

// Text. The bounds of tokens and templates stand beside the code that keeps them, in rust/src.
inline constexpr size_t kMerges = 4u << 20;
inline constexpr size_t kTextBytes = 16u << 20;  // one text to tokenize; the same as TEXT_BYTES_MAX in rust/src

// Requests.
inline constexpr size_t kJsonBytes = 64u << 20;
inline constexpr int kJsonDepth = 128;
inline constexpr int32_t kChoices = 128;          // n
inline constexpr int32_t kTopLogprobs = 20;
inline constexpr int32_t kStopStrings = 16;
inline constexpr size_t kStopStringBytes = 4'096;
inline constexpr int32_t kStopTokenIds = 128;
inline constexpr int32_t kLogitBiasEntries = 1'024;
inline constexpr int32_t kBadWords = 128;
inline constexpr int32_t kBadWordTokens = 64;

// Engine.
inline constexpr int32_t kBlockTokens = 16;               // tokens per KV block
inline constexpr int32_t kQueuedRequests = 4'096;         // default bound of the queue
inline constexpr int64_t kQueuedPromptTokens = 4'194'304;
inline constexpr size_t kStreamBufferBytes = 1u << 20;    // what one reader may leave unread

// Chat page.
inline constexpr size_t kChatBodyBytes = 2u << 20;        // of a request to the page's own interface
inline constexpr size_t kChatMessageBodyBytes = 8u << 20; // of one that carries a message
inline constexpr size_t kChatMessageBytes = 6u << 20;     // a message's text
inline constexpr size_t kChatSettingsBytes = 16u << 10;
inline constexpr size_t kChatTitleChars = 300;
inline constexpr size_t kChatNameChars = 100;
inline constexpr size_t kChatSystemPromptBytes = 256u << 10;
inline constexpr size_t kChatTemplateBytes = 64u << 10;
inline constexpr size_t kChatTemplates = 500;             // per user
inline constexpr size_t kChatTemplateVariables = 50;
inline constexpr size_t kChatFolders = 200;               // per user
inline constexpr size_t kChatMessages = 10'000;           // per conversation
inline constexpr size_t kChatConversations = 100'000;     // per user
inline constexpr size_t kChatUsers = 100'000;
inline constexpr size_t kChatSessionsPerUser = 50;        // the one used longest ago ends
inline constexpr size_t kChatKeysPerUser = 50;
inline constexpr size_t kChatStreamsPerUser = 32;         // event streams: tabs
inline constexpr size_t kChatEventsKept = 2'048;          // per user, for reattaching …
inline constexpr size_t kChatEventBytesKept = 1u << 20;   // … and in bytes
inline constexpr size_t kChatGenerationsPerUser = 16;     // under way
inline constexpr size_t kDocumentBytes = 20u << 20;
inline constexpr size_t kDocumentTextBytes = 8u << 20;    // extracted
inline constexpr size_t kDocumentsPerMessage = 10;
inline constexpr size_t kDocumentsPerUser = 500;
inline constexpr size_t kDocumentBytesPerUser = 1u << 30;

}  // namespace pagemill::limits
