// TLS towards real redis-servers: whom a connection trusts, what it says when it does not, and that
// encryption hides neither late bytes nor early ones.
#include <sys/socket.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/redis/connection.h"
#include "storage/redis/tls.h"
#include "tests/storage/redis/handshake_server.h"
#include "tests/testing/certificate_authority.h"
#include "tests/testing/redis_server.h"

namespace tokenbroker::redis {
namespace {

using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

Deadline Soon() { return Deadline::In(absl::Seconds(10)); }

IssuedCertificate Issue(const CertificateAuthority& ca, const std::string& names, int days = 30) {
  const absl::StatusOr<IssuedCertificate> issued = ca.Issue(names, days);
  EXPECT_TRUE(issued.ok()) << issued.status();
  return issued.ok() ? *issued : IssuedCertificate{};
}

std::unique_ptr<CertificateAuthority> NewCa() {
  absl::StatusOr<std::unique_ptr<CertificateAuthority>> ca = CertificateAuthority::Create();
  EXPECT_TRUE(ca.ok()) << ca.status();
  return ca.ok() ? *std::move(ca) : nullptr;
}

class RedisTlsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = (std::filesystem::temp_directory_path() / "tb-tls-XXXXXX").string();
    ASSERT_NE(mkdtemp(directory_.data()), nullptr);
    ca_ = NewCa();
    ASSERT_NE(ca_, nullptr);
    ca_file_ = Write("ca.crt", ca_->certificate_pem());
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string Write(const std::string& name, const std::string& text) {
    const std::string path = directory_ + "/" + name;
    // As Kubernetes does it: readers see the old file or the new one.
    std::ofstream(path + ".new") << text;
    std::filesystem::rename(path + ".new", path);
    return path;
  }

  void StartServer(const IssuedCertificate& certificate, bool client_certificates = false,
                   std::vector<std::string> config = {}) {
    RedisServer::Options options;
    options.tls = RedisServer::Tls{certificate, ca_->certificate_pem(), client_certificates};
    options.config = std::move(config);
    absl::StatusOr<std::unique_ptr<RedisServer>> server = RedisServer::Start(std::move(options));
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  std::shared_ptr<const TlsContext> Context(TlsOptions options) {
    absl::StatusOr<std::shared_ptr<const TlsContext>> context =
        TlsContext::Create(std::move(options));
    EXPECT_TRUE(context.ok()) << context.status();
    return context.ok() ? *context : nullptr;
  }

  absl::StatusOr<std::unique_ptr<Connection>> Open(std::shared_ptr<const TlsContext> tls,
                                                   const std::string& host = "127.0.0.1") {
    Login login;
    login.tls = std::move(tls);
    return Connection::Open({host, server_->port()}, login, Soon());
  }

  // OK: a command was answered.
  absl::Status Use(TlsOptions options, const std::string& host = "127.0.0.1") {
    absl::StatusOr<std::unique_ptr<Connection>> connection = Open(Context(options), host);
    if (!connection.ok()) return connection.status();
    return (*connection)->Execute(Command{"PING"}, Soon()).status();
  }

  std::string directory_;
  std::string ca_file_;
  std::unique_ptr<CertificateAuthority> ca_;
  std::unique_ptr<RedisServer> server_;
};

void ExpectRefused(const absl::Status& status, const std::string& text) {
  EXPECT_EQ(ErrorReason(status), "STORE_UNAVAILABLE") << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(text));
}

// The server says why, and a reset of the connection may overtake it.
void ExpectCertificateRefused(const absl::Status& status, const std::string& text) {
  EXPECT_EQ(ErrorReason(status), "STORE_UNAVAILABLE") << status;
  EXPECT_THAT(std::string(status.message()),
              AnyOf(HasSubstr(text), HasSubstr("right after the handshake; does the server accept "
                                               "our client certificate, or want one?")));
}

TEST_F(RedisTlsTest, TrustsTheRightServerByNameAndByAddress) {
  StartServer(Issue(*ca_, "DNS:localhost,IP:127.0.0.1"));
  EXPECT_EQ(Use({.ca_file = ca_file_}), absl::OkStatus());
  EXPECT_EQ(Use({.ca_file = ca_file_}, "localhost"), absl::OkStatus());
}

TEST_F(RedisTlsTest, RefusesAnAuthorityThatItDoesNotKnow) {
  StartServer(Issue(*ca_, "DNS:localhost,IP:127.0.0.1"));
  const std::unique_ptr<CertificateAuthority> other = NewCa();
  const std::string other_file = Write("other.crt", other->certificate_pem());
  ExpectRefused(Use({.ca_file = other_file}), "certificate is not trusted");
  // The system's authorities do not know it either.
  ExpectRefused(Use({}), "certificate is not trusted");
}

TEST_F(RedisTlsTest, RefusesAnExpiredCertificate) {
  StartServer(Issue(*ca_, "IP:127.0.0.1", -1));
  ExpectRefused(Use({.ca_file = ca_file_}), "certificate is not trusted: certificate has expired");
}

TEST_F(RedisTlsTest, RefusesACertificateForAnotherName) {
  StartServer(Issue(*ca_, "DNS:redis.example,IP:127.0.0.9"));
  ExpectRefused(Use({.ca_file = ca_file_}), "certificate is not for '127.0.0.1'");
  ExpectRefused(Use({.ca_file = ca_file_}, "localhost"), "certificate is not for 'localhost'");
  ExpectRefused(Use({.ca_file = ca_file_, .server_name = "127.0.0.8"}), "not for '127.0.0.8'");
  // The right name for this certificate, wherever the server is.
  EXPECT_EQ(Use({.ca_file = ca_file_, .server_name = "redis.example"}), absl::OkStatus());
  EXPECT_EQ(Use({.ca_file = ca_file_, .server_name = "127.0.0.9"}), absl::OkStatus());
}

// A server for many names (a hosted Redis behind one address) chooses by the name that is asked
// for.
TEST_F(RedisTlsTest, AsksForTheServerByItsName) {
  const auto server =
      HandshakeServer::Start(Issue(*ca_, "DNS:localhost,DNS:redis.example,IP:127.0.0.1"));
  ASSERT_TRUE(server.ok()) << server.status();
  const auto open = [&](const std::string& host, const std::string& server_name) {
    Login login;
    login.tls = Context({.ca_file = ca_file_, .server_name = server_name});
    return Connection::Open({host, (*server)->port()}, login, Soon()).status();
  };
  EXPECT_EQ(open("localhost", ""), absl::OkStatus());
  EXPECT_EQ(open("127.0.0.1", "redis.example"), absl::OkStatus());
  EXPECT_EQ(open("localhost", "redis.example."), absl::OkStatus());
  // RFC 6066 knows names only.
  EXPECT_EQ(open("127.0.0.1", ""), absl::OkStatus());
  EXPECT_EQ(open("localhost", "127.0.0.1"), absl::OkStatus());
  EXPECT_THAT((*server)->names(),
              ElementsAre("localhost", "redis.example", "redis.example", "", ""));
}

TEST_F(RedisTlsTest, ShowsAClientCertificateWhereOneIsWanted) {
  StartServer(Issue(*ca_, "IP:127.0.0.1"), true);
  const IssuedCertificate mine = Issue(*ca_, "DNS:token-broker");
  const TlsOptions with = {.ca_file = ca_file_,
                           .certificate_file = Write("mine.crt", mine.certificate_pem),
                           .key_file = Write("mine.key", mine.private_key_pem)};
  EXPECT_EQ(Use(with), absl::OkStatus());

  const std::unique_ptr<CertificateAuthority> other = NewCa();
  const IssuedCertificate foreign = Issue(*other, "DNS:token-broker");
  const TlsOptions wrong = {.ca_file = ca_file_,
                            .certificate_file = Write("foreign.crt", foreign.certificate_pem),
                            .key_file = Write("foreign.key", foreign.private_key_pem)};
  // TLS 1.3 servers say it after the handshake, at any moment of the first command.
  for (int i = 0; i < 50; ++i) {
    ExpectCertificateRefused(Use({.ca_file = ca_file_}),
                             "wants a client certificate, and none was shown");
    ExpectCertificateRefused(Use(wrong), "refuses our client certificate");
  }
}

TEST_F(RedisTlsTest, SpeaksTls12) {
  StartServer(Issue(*ca_, "IP:127.0.0.1"), true, {"tls-protocols TLSv1.2"});
  const IssuedCertificate mine = Issue(*ca_, "DNS:token-broker");
  EXPECT_EQ(Use({.ca_file = ca_file_,
                 .certificate_file = Write("mine.crt", mine.certificate_pem),
                 .key_file = Write("mine.key", mine.private_key_pem)}),
            absl::OkStatus());
  ExpectRefused(Use({.ca_file = ca_file_}), "client certificate");
}

TEST_F(RedisTlsTest, RefusesOlderVersions) {
  StartServer(Issue(*ca_, "IP:127.0.0.1"), false,
              {"tls-protocols TLSv1.1", "tls-ciphers DEFAULT@SECLEVEL=0"});
  ExpectRefused(Use({.ca_file = ca_file_}), "no TLS connection to Redis");
}

TEST_F(RedisTlsTest, SaysThatThePortSpeaksPlainText) {
  const absl::StatusOr<std::unique_ptr<RedisServer>> plain = RedisServer::Start({});
  ASSERT_TRUE(plain.ok()) << plain.status();
  Login login;
  login.tls = Context({.ca_file = ca_file_});
  const auto start = std::chrono::steady_clock::now();
  const auto connection = Connection::Open({"127.0.0.1", (*plain)->port()}, login,
                                           Deadline::In(absl::Milliseconds(300)));
  // redis-server waits for the end of the line: only the deadline ends this.
  ExpectRefused(connection.status(), "no TLS connection to Redis");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST_F(RedisTlsTest, SaysThatAPlainConnectionMeetsTls) {
  StartServer(Issue(*ca_, "IP:127.0.0.1"));
  Login login;
  auto connection = Connection::Open({"127.0.0.1", server_->port()}, login, Soon());
  ASSERT_TRUE(connection.ok()) << connection.status();
  EXPECT_FALSE((*connection)->Execute(Command{"PING"}, Soon()).ok());
}

TEST_F(RedisTlsTest, FrozenServerEndsTheHandshakeAtItsDeadline) {
  StartServer(Issue(*ca_, "IP:127.0.0.1"));
  server_->Freeze();
  Login login;
  login.tls = Context({.ca_file = ca_file_});
  const auto connection = Connection::Open({"127.0.0.1", server_->port()}, login,
                                           Deadline::In(absl::Milliseconds(100)));
  ExpectRefused(connection.status(), "no answer in time");
  server_->Thaw();
}

// TLS 1.3 sends session tickets after the handshake: the socket is readable, and nobody wrote.
TEST_F(RedisTlsTest, SessionTicketsAreNotTakenForData) {
  StartServer(Issue(*ca_, "IP:127.0.0.1"));
  const auto connection = Open(Context({.ca_file = ca_file_}));
  ASSERT_TRUE(connection.ok()) << connection.status();
  // The tickets are there once the server has gone round its loop, so after another's command.
  ASSERT_TRUE(server_->Command({"PING"}).ok());
  EXPECT_TRUE((*connection)->IdleAndAlive());
  EXPECT_TRUE((*connection)->Execute(Command{"PING"}, Soon()).ok());
  EXPECT_TRUE((*connection)->IdleAndAlive());
}

TEST_F(RedisTlsTest, LateAnswersMakeAnIdleConnectionUseless) {
  StartServer(Issue(*ca_, "IP:127.0.0.1"));
  auto connection = Open(Context({.ca_file = ca_file_}));
  ASSERT_TRUE(connection.ok()) << connection.status();
  ASSERT_TRUE((*connection)->Send({"ECHO", "nobody waits for this"}, Soon()).ok());
  ASSERT_TRUE(WaitUntil([&] { return !(*connection)->IdleAndAlive(); }));
  EXPECT_TRUE((*connection)->broken());
}

TEST_F(RedisTlsTest, ClosedConnectionsAreNoticed) {
  StartServer(Issue(*ca_, "IP:127.0.0.1"));
  auto connection = Open(Context({.ca_file = ca_file_}));
  ASSERT_TRUE(connection.ok()) << connection.status();
  server_->Kill();
  EXPECT_TRUE(WaitUntil([&] { return !(*connection)->IdleAndAlive(); }));
  ASSERT_TRUE(server_->Restart().ok());
  connection = Open(Context({.ca_file = ca_file_}));
  ASSERT_TRUE(connection.ok()) << connection.status();
  server_->Stop();
  const auto reply = (*connection)->Execute(Command{"PING"}, Soon());
  ExpectRefused(reply.status(), "Redis: ");
}

// Many records, of which poll(2) sees only those that are not decrypted yet; and more to send than
// the socket takes at once.
TEST_F(RedisTlsTest, LargeCommandsAndAnswersGoThrough) {
  StartServer(Issue(*ca_, "IP:127.0.0.1"));
  const auto connection = Open(Context({.ca_file = ca_file_}));
  ASSERT_TRUE(connection.ok()) << connection.status();
  for (const size_t size : {1u, 16'383u, 16'384u, 16'385u, 100'000u, 8'000'000u}) {
    const std::string value(size, 'x');
    const std::vector<Command> commands = {
        {"SET", "key", value}, {"GET", "key"}, {"GET", "key"}, {"PING"}};
    const auto replies = (*connection)->Execute(commands, Soon());
    ASSERT_TRUE(replies.ok()) << replies.status() << " at " << size;
    EXPECT_TRUE((*replies)[1].view().text() == value);
    EXPECT_TRUE((*replies)[2].view().text() == value);
    EXPECT_EQ((*replies)[3].view().text(), "PONG");
    EXPECT_TRUE((*connection)->IdleAndAlive());
  }
}

TEST_F(RedisTlsTest, SubscriptionsGetEveryMessage) {
  StartServer(Issue(*ca_, "IP:127.0.0.1"));
  const std::shared_ptr<const TlsContext> tls = Context({.ca_file = ca_file_});
  const auto subscriber = Open(tls);
  const auto publisher = Open(tls);
  ASSERT_TRUE(subscriber.ok() && publisher.ok());
  ASSERT_TRUE((*subscriber)->Send({"SUBSCRIBE", "channel"}, Soon()).ok());
  ASSERT_TRUE((*subscriber)->Receive(Soon(), -1).ok());
  constexpr int kMessages = 1000;
  std::vector<std::string> texts;
  for (int i = 0; i < kMessages; ++i) texts.push_back(absl::StrCat("message ", i));
  std::vector<Command> commands;
  for (const std::string& text : texts) commands.push_back({"PUBLISH", "channel", text});
  ASSERT_TRUE((*publisher)->Execute(commands, Soon()).ok());
  for (const std::string& text : texts) {
    const auto reply = (*subscriber)->Receive(Soon(), -1);
    ASSERT_TRUE(reply.ok() && reply->has_value()) << reply.status();
    ASSERT_EQ((*reply)->view()[2].text(), text);
  }
  // Nothing more: the wait ends by its deadline, and the connection stays usable.
  const auto none = (*subscriber)->Receive(Deadline::In(absl::Milliseconds(20)), -1);
  ASSERT_TRUE(none.ok());
  EXPECT_FALSE(none->has_value());
  EXPECT_FALSE((*subscriber)->broken());
}

TEST_F(RedisTlsTest, ChangedFilesAreReadAgain) {
  StartServer(Issue(*ca_, "IP:127.0.0.1"), true);
  const std::unique_ptr<CertificateAuthority> other = NewCa();
  const IssuedCertificate foreign = Issue(*other, "DNS:token-broker");
  const TlsOptions options = {.ca_file = Write("trusted.crt", other->certificate_pem()),
                              .certificate_file = Write("mine.crt", foreign.certificate_pem),
                              .key_file = Write("mine.key", foreign.private_key_pem)};
  const std::shared_ptr<const TlsContext> context = Context(options);
  ExpectRefused(Open(context).status(), "certificate is not trusted");

  Write("trusted.crt", ca_->certificate_pem());
  const IssuedCertificate mine = Issue(*ca_, "DNS:token-broker");
  Write("mine.crt", mine.certificate_pem);
  // Halfway: the key does not fit the certificate, so what was loaded last stays in use.
  ExpectRefused(Open(context).status(), "certificate is not trusted");
  Write("mine.key", mine.private_key_pem);
  const auto connection = Open(context);
  ASSERT_TRUE(connection.ok()) << connection.status();
  EXPECT_TRUE((*connection)->Execute(Command{"PING"}, Soon()).ok());
}

TEST_F(RedisTlsTest, BadFilesAreNamedAndNotQuoted) {
  const IssuedCertificate mine = Issue(*ca_, "DNS:token-broker");
  const IssuedCertificate second = Issue(*ca_, "DNS:token-broker");
  const std::string certificate = Write("mine.crt", mine.certificate_pem);
  const std::string key = Write("second.key", second.private_key_pem);
  const std::string canary = Write("canary.txt", "canary-text");
  const auto refused = [](TlsOptions options) {
    const absl::Status status = TlsContext::Create(std::move(options)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("canary-text")));
    return std::string(status.message());
  };
  EXPECT_THAT(refused({.ca_file = "nowhere.crt"}), HasSubstr("ca_file 'nowhere.crt'"));
  EXPECT_THAT(refused({.ca_file = canary}), HasSubstr("ca_file '"));
  EXPECT_THAT(refused({.certificate_file = certificate}), HasSubstr("both"));
  EXPECT_THAT(refused({.key_file = key}), HasSubstr("both"));
  EXPECT_THAT(refused({.certificate_file = canary, .key_file = key}),
              HasSubstr("certificate_file '"));
  EXPECT_THAT(refused({.certificate_file = certificate, .key_file = canary}),
              HasSubstr("key_file '"));
  EXPECT_THAT(refused({.certificate_file = certificate, .key_file = key}),
              HasSubstr("not the key of the certificate"));
}

}  // namespace
}  // namespace tokenbroker::redis
