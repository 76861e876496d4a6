using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace GpuTasks.SystemTests;

/// <summary>Requests and answers of HTTP triggers that pass through while they are made: gateway, silo, relay and a real container.</summary>
public sealed class StreamTests : IAsyncLifetime
{
    private const string Function = "streams";
    private const int MiB = 1 << 20;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);
    private Platform platform = null!;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync() => platform = await Platform.StartAsync();

    public ValueTask DisposeAsync() => platform.DisposeAsync();

    [Fact]
    public async Task Each_part_goes_through_before_the_next_is_sent_both_ways()
    {
        await CreateAsync(timeout: 120);
        using var call = await OpenAsync("/duplex");

        // The function tells back what it hears: the caller sends a part only after it has read the one before.
        Assert.StartsWith("HTTP/1.1 200 ", await call.HeadAsync(), StringComparison.Ordinal);
        foreach (var part in (string[])["first", "second", "third"])
        {
            await call.SendChunkAsync(part);
            Assert.Equal(part, await call.ReadChunkedAsync(part.Length));
        }

        await call.SendChunkAsync("");
        Assert.Equal("", await call.RestAsync());
        Assert.True(call.EndedWell);
    }

    [Fact]
    public async Task Bodies_and_answers_longer_than_what_is_held_pass_whole()
    {
        await CreateAsync(timeout: 120);
        using var http = new HttpClient { Timeout = TimeSpan.FromMinutes(2) };
        foreach (var chunked in (bool[])[false, true])
        {
            using var request = new HttpRequestMessage(HttpMethod.Post, Url("/up?count=1")) { Content = new ByteArrayContent(new byte[48 * MiB]) };
            request.Headers.TransferEncodingChunked = chunked;
            using var counted = await http.SendAsync(request, Token);
            Assert.Equal((HttpStatusCode.OK, (48 * MiB).ToString(CultureInfo.InvariantCulture)), (counted.StatusCode, await counted.Content.ReadAsStringAsync(Token)));
        }

        using var download = await http.GetAsync(Url($"/down?bytes={48 * MiB}"), HttpCompletionOption.ResponseHeadersRead, Token);
        Assert.Equal(HttpStatusCode.OK, download.StatusCode);
        long got = 0;
        var buffer = new byte[65536];
        await using var body = await download.Content.ReadAsStreamAsync(Token);
        while (await body.ReadAsync(buffer, Token) is > 0 and var count)
        {
            got += count;
        }

        Assert.Equal(48 * MiB, got);
    }

    [Fact]
    public async Task A_caller_who_leaves_ends_the_run_and_frees_the_slot()
    {
        // One card's worth of instances at most, so that the next call needs this one's place.
        await CreateAsync(timeout: 600);
        using (var call = await OpenAsync("/leaves"))
        {
            await call.HeadAsync();
            await call.SendChunkAsync("x");
            Assert.Equal("x", await call.ReadChunkedAsync(1));
        }

        var limit = await platform.Client.SendJsonAsync(HttpMethod.Put, $"functions/{Function}/concurrency", new JsonObject { ["reservedConcurrency"] = 1 });
        Assert.True(limit.Status == HttpStatusCode.OK, limit.Text);
        using var http = new HttpClient { Timeout = TimeSpan.FromMinutes(2) };
        Assert.Equal("0", await http.GetStringAsync(Url("/next?count=1"), Token));
    }

    [Fact]
    public async Task A_run_past_its_limit_and_a_function_that_dies_break_the_answer_off()
    {
        await CreateAsync(timeout: 10);
        using (var late = await OpenAsync("/late"))
        {
            await late.HeadAsync();
            await late.SendChunkAsync("x");
            Assert.Equal("x", await late.ReadChunkedAsync(1));
            Assert.Equal("", await late.RestAsync());
            Assert.False(late.EndedWell);
        }

        using var dying = await OpenAsync("/dying?crash=1");
        await dying.HeadAsync();
        await dying.SendChunkAsync("x");
        Assert.Equal("x", await dying.ReadChunkedAsync(1));
        await dying.SendChunkAsync("");
        Assert.Equal("", await dying.RestAsync());
        Assert.False(dying.EndedWell);

        // Before anything of the answer has left, it is an error like any other.
        using var silent = await OpenAsync("/silent?count=1");
        await silent.SendChunkAsync("x");
        Assert.StartsWith("HTTP/1.1 504 ", await silent.HeadAsync(), StringComparison.Ordinal);
    }

    private async Task CreateAsync(int timeout)
    {
        await platform.Client.CreateEchoAsync(Function, change: definition => definition["timeout"] = timeout);
        var trigger = await platform.Client.SendJsonAsync(HttpMethod.Post, $"functions/{Function}/triggers", new JsonObject
        {
            ["triggerName"] = "web",
            ["triggerType"] = "http",
            ["triggerConfig"] = JsonSerializer.Serialize(new { authType = "anonymous", methods = new[] { "GET", "POST" } }),
        });
        Assert.True(trigger.Status == HttpStatusCode.OK, trigger.Text);
    }

    private Uri Url(string path) => new(platform.Client.Address, $"/http/1000000000000001/{Function}/web{path}");

    private async Task<RawCall> OpenAsync(string path)
    {
        var url = Url(path);
        var call = new RawCall();
        await call.ConnectAsync(url);
        await call.SendAsync($"POST {url.PathAndQuery} HTTP/1.1\r\nHost: {url.Authority}\r\nTransfer-Encoding: chunked\r\n\r\n");
        return call;
    }

    /// <summary>A request whose bytes are in the test's hand; clients of the library wait for what they like.</summary>
    private sealed class RawCall : IDisposable
    {
        private readonly Socket socket = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        private readonly StringBuilder unread = new();

        /// <summary>True once the last chunk of the answer, the empty one, was read.</summary>
        public bool EndedWell { get; private set; }

        public Task ConnectAsync(Uri url) => socket.ConnectAsync(IPAddress.Loopback, url.Port, Token).AsTask();

        public async Task SendAsync(string bytes) => await socket.SendAsync(Encoding.Latin1.GetBytes(bytes), Token);

        public Task SendChunkAsync(string text) => SendAsync($"{text.Length:x}\r\n{text}\r\n");

        public async Task<string> HeadAsync()
        {
            var end = await FindAsync("\r\n\r\n") ?? throw new InvalidOperationException($"No head came: {unread}");
            return Take(end + 4);
        }

        /// <summary>So many bytes of the answer's body, whichever chunks they come in.</summary>
        public async Task<string> ReadChunkedAsync(int length)
        {
            var text = "";
            while (text.Length < length && await NextChunkAsync() is { Length: > 0 } chunk)
            {
                text += chunk;
            }

            return text;
        }

        /// <summary>What follows until the answer ends or breaks off.</summary>
        public async Task<string> RestAsync()
        {
            var text = "";
            while (await NextChunkAsync() is { Length: > 0 } chunk)
            {
                text += chunk;
            }

            return text;
        }

        public void Dispose() => socket.Dispose();

        private async Task<string?> NextChunkAsync()
        {
            if (await FindAsync("\r\n") is not { } line)
            {
                return null;
            }

            var size = int.Parse(Take(line + 2).Trim(), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
            while (unread.Length < size + 2)
            {
                if (!await FillAsync())
                {
                    return null;
                }
            }

            EndedWell |= size == 0;
            return Take(size + 2)[..size];
        }

        private async Task<int?> FindAsync(string text)
        {
            int at;
            while ((at = unread.ToString().IndexOf(text, StringComparison.Ordinal)) < 0)
            {
                if (!await FillAsync())
                {
                    return null;
                }
            }

            return at;
        }

        private async Task<bool> FillAsync()
        {
            var buffer = new byte[65536];
            using var patience = CancellationTokenSource.CreateLinkedTokenSource(Token);
            patience.CancelAfter(Patience);
            try
            {
                var count = await socket.ReceiveAsync(buffer, patience.Token);
                unread.Append(Encoding.Latin1.GetString(buffer, 0, count));
                return count > 0;
            }
            catch (SocketException)
            {
                return false; // Broken off.
            }
        }

        private string Take(int count)
        {
            var text = unread.ToString(0, count);
            unread.Remove(0, count);
            return text;
        }
    }
}
