using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;

namespace GpuTasks.Relay.Tests;

/// <summary>What the control socket does with what it does not like.</summary>
public sealed class ControlServerTests
{
    [Fact]
    public async Task Changes_name_no_run_that_has_not_changed()
    {
        await using var relay = await RelayUnderTest.WithEchoAsync(config => config.Concurrency = 2);
        await relay.ReadyAsync();
        await relay.PutAsync("a", "{}");
        await relay.EndOfAsync("a");
        var before = (await relay.StatusAsync()).Version;
        await relay.PutAsync("b", """{"mode":"sleep","seconds":600}""");
        var (_, changes) = await relay.CallAsync(HttpMethod.Get, $"status?after={before}&changed=1");
        var (_, all) = await relay.CallAsync(HttpMethod.Get, $"status?after={before}");
        Assert.Equal("b", Assert.Single(JsonSerializer.Deserialize(changes, Json.Default.StatusDocument)!.Runs).RunId);
        Assert.Equal(2, JsonSerializer.Deserialize(all, Json.Default.StatusDocument)!.Runs.Count);
    }

    [Theory]
    [InlineData(".hidden")]
    [InlineData("a%2Fb")]
    [InlineData("a b")]
    [InlineData("ä")]
    public async Task A_bad_run_id_is_refused(string id)
    {
        await using var relay = await StartAsync();
        var (status, text) = await relay.TryPutAsync(Uri.EscapeDataString(id), []);
        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.Contains("bad-run-id", text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_run_id_has_at_most_200_characters()
    {
        await using var relay = await StartAsync();
        Assert.Equal(HttpStatusCode.BadRequest, (await relay.TryPutAsync(new string('a', 201), [])).Status);
        await relay.PutAsync(new string('a', 200), "");
    }

    [Theory]
    [InlineData("GET", "/nothing", 404)]
    [InlineData("GET", "/runs/r", 404)]
    [InlineData("GET", "/runs/r/response", 404)]
    [InlineData("DELETE", "/runs/r", 404)]
    [InlineData("POST", "/runs/r/ack", 204)]
    [InlineData("PATCH", "/runs/r", 405)]
    [InlineData("POST", "/status", 405)]
    [InlineData("GET", "/status?after=x", 400)]
    [InlineData("PUT", "/runs/r", 400)]
    [InlineData("POST", "/stop?graceMs=-1", 400)]
    public async Task Each_call_has_its_answer(string method, string path, int status)
    {
        await using var relay = await StartAsync();
        var (code, body) = await relay.CallAsync(new HttpMethod(method), path);
        Assert.Equal(status, (int)code);
        Assert.Equal(status >= 400, Encoding.UTF8.GetString(body).Contains("\"error\":\"", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("not base64")]
    [InlineData("bm90IGpzb24=")]
    [InlineData("null")]
    [InlineData("""{"limitMs":0}""")]
    [InlineData("""{"limitMs":1000,"path":"no-slash"}""")]
    [InlineData("""{"limitMs":1000,"path":"/a b"}""")]
    [InlineData("""{"limitMs":1000,"method":"GET / HTTP/1.1\r\n"}""")]
    [InlineData("""{"limitMs":1000,"headers":{"x":"a\r\nb: c"}}""")]
    [InlineData("""{"limitMs":1000,"headers":{"x y":"a"}}""")]
    public async Task A_bad_order_is_refused(string order)
    {
        await using var relay = await StartAsync();
        var header = order.StartsWith('{') || order == "null" ? Convert.ToBase64String(Encoding.UTF8.GetBytes(order)) : order;
        var answer = await RawAsync(relay, $"PUT /runs/r HTTP/1.1\r\nx-gputasks-order: {header}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        Assert.StartsWith("HTTP/1.1 400 ", answer, StringComparison.Ordinal);
        Assert.Contains("bad-order", answer, StringComparison.Ordinal);
        Assert.Empty((await relay.StatusAsync()).Runs);
    }

    [Fact]
    public async Task A_body_beyond_its_bound_is_refused_whether_told_or_not()
    {
        await using var relay = await StartAsync();
        var (status, text) = await relay.TryPutAsync("told", new byte[(64 * 1024 * 1024) + 1]);
        Assert.Equal(HttpStatusCode.RequestEntityTooLarge, status);
        Assert.Contains("too-large", text, StringComparison.Ordinal);

        using var socket = await ConnectAsync(relay);
        var order = Convert.ToBase64String("""{"limitMs":1000}"""u8);
        await SendAsync(socket, $"PUT /runs/untold HTTP/1.1\r\nx-gputasks-order: {order}\r\ntransfer-encoding: chunked\r\n\r\n");
        var chunk = Encoding.ASCII.GetBytes("1000000\r\n" + new string('x', 0x1000000) + "\r\n");
        for (var i = 0; i < 5; i++)
        {
            await HttpWriter.WriteAsync(socket, chunk, Deadline.Token);
        }

        await SendAsync(socket, "0\r\n\r\n");
        Assert.StartsWith("HTTP/1.1 413 ", await ReceiveAsync(socket, 20), StringComparison.Ordinal);
        Assert.Empty((await relay.StatusAsync()).Runs);
        Assert.Empty(Directory.GetDirectories(Path.Combine(relay.Box, "runs")));
        // Its place is free again.
        await relay.PutAsync("r", "");
    }

    [Fact]
    public async Task A_caller_that_goes_away_within_its_body_leaves_nothing()
    {
        await using var relay = await StartAsync();
        var order = Convert.ToBase64String("""{"limitMs":1000,"epoch":1}"""u8);
        using (var socket = await ConnectAsync(relay))
        {
            await SendAsync(socket, $"PUT /runs/r HTTP/1.1\r\nx-gputasks-order: {order}\r\ncontent-length: 10\r\n\r\n12345");
            await Deadline.UntilAsync(() => Task.FromResult(Directory.Exists(Path.Combine(relay.Box, "runs", "r"))), "the body being taken");
            Assert.Equal(HttpStatusCode.NotFound, (await relay.CallAsync(HttpMethod.Get, "runs/r")).Status);
            Assert.Contains("busy", (await relay.TryPutAsync("other", [])).Text, StringComparison.Ordinal);
        }

        await Deadline.UntilAsync(() => Task.FromResult(!Directory.Exists(Path.Combine(relay.Box, "runs", "r"))), "the body's end");
        await Deadline.UntilAsync(async () => (await relay.TryPutAsync("r", [])).Status == HttpStatusCode.Created, "a free place");
    }

    [Theory]
    [InlineData("GET /status HTTP/1.0\r\n\r\n")]
    [InlineData("nonsense\r\n\r\n")]
    [InlineData("GET status HTTP/1.1\r\n\r\n")]
    [InlineData("GET /status HTTP/1.1\r\ncontent-length: x\r\n\r\n")]
    public async Task What_is_not_http_is_refused(string request)
    {
        await using var relay = await StartAsync();
        Assert.StartsWith("HTTP/1.1 400 ", await RawAsync(relay, request, 13), StringComparison.Ordinal);
        await relay.StatusAsync();
    }

    [Fact]
    public async Task A_head_beyond_its_bound_is_refused()
    {
        await using var relay = await StartAsync();
        // Little enough that the socket's buffer takes what the relay does not.
        Assert.StartsWith("HTTP/1.1 400 ", await RawAsync(relay, "GET /status HTTP/1.1\r\nx: " + new string('y', 80_000), 13), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Requests_follow_each_other_on_one_connection_also_when_sent_at_once()
    {
        await using var relay = await StartAsync();
        var answer = await RawAsync(relay, "GET /nothing HTTP/1.1\r\n\r\nPOST /runs/r/ack HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcGET /runs/x HTTP/1.1\r\nconnection: close\r\n\r\n");
        Assert.Equal(3, answer.Split("HTTP/1.1 ").Length - 1);
    }

    [Fact]
    public async Task A_caller_that_asks_first_is_told_to_go_on()
    {
        await using var relay = await StartAsync();
        using var socket = await ConnectAsync(relay);
        var order = Convert.ToBase64String("""{"limitMs":60000}"""u8);
        await SendAsync(socket, $"PUT /runs/r HTTP/1.1\r\nx-gputasks-order: {order}\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n");
        Assert.StartsWith("HTTP/1.1 100 ", await ReceiveAsync(socket, 25), StringComparison.Ordinal);
        await SendAsync(socket, "{}");
        Assert.StartsWith("HTTP/1.1 201 ", await ReceiveAsync(socket, 13), StringComparison.Ordinal);
    }

    private static async Task<RelayUnderTest> StartAsync()
    {
        // A server that takes connections and never answers.
        var function = new ScriptedFunction();
        var relay = await RelayUnderTest.WithScriptAsync(new RelayConfig { Port = function.Port }, "exec sleep 1000");
        relay.Function = function;
        return await relay.OnceAsync(() => relay.ReadyAsync());
    }

    private static async Task<Socket> ConnectAsync(RelayUnderTest relay)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        await socket.ConnectAsync(new UnixDomainSocketEndPoint(Path.Combine(relay.Box, "relay.sock")), Deadline.Token);
        return socket;
    }

    private static async Task<string> RawAsync(RelayUnderTest relay, string request, int atLeast = int.MaxValue)
    {
        using var socket = await ConnectAsync(relay);
        await SendAsync(socket, request);
        return await ReceiveAsync(socket, atLeast);
    }

    private static async Task SendAsync(Socket socket, string text) => await HttpWriter.WriteAsync(socket, Encoding.UTF8.GetBytes(text), Deadline.Token);

    private static async Task<string> ReceiveAsync(Socket socket, int atLeast)
    {
        var text = new StringBuilder();
        var buffer = new byte[65536];
        while (text.Length < atLeast && await socket.ReceiveAsync(buffer, Deadline.Token) is var count && count > 0)
        {
            text.Append(Encoding.UTF8.GetString(buffer, 0, count));
        }

        return text.ToString();
    }
}
