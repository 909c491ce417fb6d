#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace supervisor {

// Undoes the Content-Encoding of an HTTP body (RFC 9110, section 8.4.1) as it comes: gzip and deflate, one layer. The
// memory it takes is bounded and small, and it stops when its reader has seen enough, so a body that unpacks to
// gigabytes costs no more than what is read of it. One thread at a time.
class ContentDecoder {
 public:
  // Returns false when it wants no more.
  using Sink = std::function<bool(std::string_view)>;

  // `coding` is the header's value; "" and "identity" pass everything through.
  explicit ContentDecoder(std::string_view coding);
  ~ContentDecoder();
  ContentDecoder(const ContentDecoder&) = delete;
  ContentDecoder& operator=(const ContentDecoder&) = delete;

  // Gives the sink what the piece decodes to. Returns false when the sink wants no more or the data is wrong.
  bool Decode(std::string_view piece, const Sink& sink);

  // What is wrong with the data so far, or with the coding itself; empty: nothing.
  const std::string& error() const { return error_; }
  // Bytes came, and the end that the coding has of its own did not.
  bool is_cut_short() const;

 private:
  struct Stream;
  bool Inflate(std::string_view piece, const Sink& sink);

  std::string coding_;
  std::string error_;
  std::unique_ptr<Stream> stream_;  // null: nothing to undo
};

}  // namespace supervisor
