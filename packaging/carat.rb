# Homebrew formula for carat. UNTESTED: written from Homebrew's documentation; nobody has run it yet.
#
# url, sha256 and homepage are placeholders: whoever publishes a release fills them in. Then:
#   brew install --build-from-source ./packaging/carat.rb && brew test carat && brew audit --new carat
class Carat < Formula
  desc "Run and measure Gemma 3 language models from GGUF files"
  homepage "https://example.org/carat"
  url "https://example.org/carat/carat-0.1.0.tar.gz"
  sha256 "0000000000000000000000000000000000000000000000000000000000000000"
  license "Apache-2.0"

  depends_on "cmake" => :build
  depends_on "ninja" => :build
  depends_on "pkgconf" => [:build, :test]

  uses_from_macos "libedit"

  def install
    system "cmake", "-S", ".", "-B", "build/brew", "-G", "Ninja", "-DCARAT_TESTS=OFF", *std_cmake_args
    system "cmake", "--build", "build/brew"
    system "cmake", "--install", "build/brew"
    pkgshare.install "tests/fixtures/tiny/tiny.gguf"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/carat --version")
    model = pkgshare/"tiny.gguf"
    want = shell_output("#{bin}/carat run #{model} 'one two' --temp 0 -n 16")
    flags = shell_output("pkgconf --cflags --libs carat").chomp.split
    system ENV.cc, doc/"examples/generate.c", *flags, "-o", "generate"
    assert_equal want, shell_output("./generate #{model} 'one two' 16 0")
  end
end
