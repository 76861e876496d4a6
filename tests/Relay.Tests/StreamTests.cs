using System.Net;
using System.Text;
using System.Text.Json;

namespace GpuTasks.Relay.Tests;

/// <summary>Orders whose answer is read while it is made and whose body follows.</summary>
public sealed class StreamTests
{
    private const string Chunked = "HTTP/1.1 206 X\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n";

    [Fact]
    public async Task Parts_are_read_by_position_as_often_as_one_likes_and_what_is_left_at_the_end_is_kept()
    {
        using var function = new ScriptedFunction();
        await using var relay = await RelayUnderTest.WithScriptAsync(new RelayConfig { Port = function.Port }, "exec sleep 1000");
        Assert.True((await relay.ReadyAsync()).Streams);
        await relay.PutAsync("r", "whole body", Order());
        using var call = await function.NextAsync();
        Assert.Equal("whole body", Encoding.UTF8.GetString(call.Body));
        Assert.Equal(HttpStatusCode.NoContent, (await relay.CallAsync(HttpMethod.Get, "runs/r/answer?waitMs=1")).Status);
        await call.SendAsync(Chunked);
        Assert.Equal((HttpStatusCode.OK, ""), await ReadAsync(relay, "waitMs=60000"));
        await call.SendAsync("5\r\nhello\r\n");
        Assert.Equal((HttpStatusCode.OK, "hello"), await ReadAsync(relay, "from=0&waitMs=60000"));
        Assert.Equal((HttpStatusCode.OK, "hello"), await ReadAsync(relay, "from=0"));
        Assert.Equal((HttpStatusCode.OK, "lo"), await ReadAsync(relay, "from=3"));
        Assert.Equal(HttpStatusCode.BadRequest, (await ReadAsync(relay, "from=2")).Status);
        Assert.Equal(HttpStatusCode.BadRequest, (await ReadAsync(relay, "from=6")).Status);
        var waits = ReadAsync(relay, "from=5&waitMs=60000");
        await call.SendAsync("2\r\n, \r\n");
        Assert.Equal((HttpStatusCode.OK, ", "), await waits);
        await call.SendAsync("5\r\nworld\r\n0\r\n\r\n");
        var run = await relay.EndOfAsync("r");
        Assert.Equal((Outcomes.Answered, 206, 5L, 7L), (run.Outcome, run.StatusCode, run.AnswerFrom, run.ResponseBytes));
        Assert.Equal(", world", await relay.ResponseAsync("r"));
        var (status, text) = await ReadAsync(relay, "from=7");
        Assert.Equal(HttpStatusCode.Conflict, status);
        Assert.Contains("ended", text, StringComparison.Ordinal);
        Assert.Equal(HttpStatusCode.NotFound, (await ReadAsync(relay, "from=0", "other")).Status);
    }

    [Fact]
    public async Task A_reader_who_waits_is_told_the_end_at_once_and_a_broken_answer_keeps_nothing()
    {
        using var function = new ScriptedFunction();
        await using var relay = await RelayUnderTest.WithScriptAsync(new RelayConfig { Port = function.Port }, "exec sleep 1000");
        await relay.ReadyAsync();
        await relay.PutAsync("r", "", Order());
        using (var call = await function.NextAsync())
        {
            await call.SendAsync(Chunked + "1\r\nx\r\n");
            Assert.Equal((HttpStatusCode.OK, "x"), await ReadAsync(relay, "from=0&waitMs=60000"));
        }

        Assert.Equal(HttpStatusCode.Conflict, (await ReadAsync(relay, "from=1&waitMs=60000")).Status);
        Assert.Equal(Outcomes.Disconnected, (await relay.EndOfAsync("r")).Outcome);
        Assert.Equal(HttpStatusCode.NotFound, (await relay.CallAsync(HttpMethod.Get, "runs/r/response")).Status);
    }

    [Fact]
    public async Task An_answer_waits_for_its_reader_in_bounded_memory_and_ends_the_run_if_none_comes()
    {
        await using var relay = await RelayUnderTest.WithEchoAsync();
        await relay.ReadyAsync();
        const int Bytes = 40 << 20;
        await relay.PutAsync("r", "", Order($"/?bytes={Bytes}", unreadMs: 120_000));
        Assert.Equal(HttpStatusCode.OK, (await ReadAsync(relay, "waitMs=60000")).Status);
        for (long from = 0; await relay.CallAsync(HttpMethod.Get, $"runs/r/answer?from={from}&waitMs=60000") is { Status: HttpStatusCode.OK } part; from += part.Body.Length)
        {
            Assert.InRange(part.Body.Length, 1, StreamWindow.Capacity);
        }

        var read = await relay.EndOfAsync("r");
        Assert.Equal(Outcomes.Answered, read.Outcome);
        Assert.Equal(Bytes, read.AnswerFrom + read.ResponseBytes);
        Assert.InRange(read.ResponseBytes, 0, StreamWindow.Capacity);
        await relay.PutAsync("unread", "", Order($"/?bytes={Bytes}", unreadMs: 500));
        var run = await relay.EndOfAsync("unread");
        Assert.Equal(Outcomes.Unread, run.Outcome);
        Assert.NotEmpty(run.Message);
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(600_000)]
    public async Task A_body_that_follows_is_taken_once_however_often_it_is_sent(int announced)
    {
        await using var relay = await RelayUnderTest.WithEchoAsync();
        await relay.ReadyAsync();
        var order = Order("/?count=1");
        order.BodyBytes = announced;
        await relay.PutAsync("r", "", order);
        var part = new byte[200_000];
        Assert.Equal(0, (await SendAsync(relay, 100, part, last: false)).Received);
        for (long sent = 0; sent < 600_000;)
        {
            var receipt = await SendAsync(relay, sent, part, last: false);
            var again = await SendAsync(relay, sent, part, last: false);
            Assert.InRange(again.Received, receipt.Received, sent + part.Length);
            sent = again.Received;
            part = new byte[Math.Min(200_000, 600_000 - sent)];
        }

        Assert.Equal(600_000, (await SendAsync(relay, 600_000, [], last: true)).Received);
        Assert.Equal(Outcomes.Answered, (await relay.EndOfAsync("r")).Outcome);
        Assert.Equal("600000", await relay.ResponseAsync("r"));
        Assert.Equal(HttpStatusCode.Conflict, (await relay.CallAsync(HttpMethod.Post, "runs/r/body?from=600000")).Status);
    }

    [Fact]
    public async Task An_order_that_streams_nothing_has_nothing_to_read_or_to_follow()
    {
        using var function = new ScriptedFunction();
        await using var relay = await RelayUnderTest.WithScriptAsync(new RelayConfig { Port = function.Port }, "exec sleep 1000");
        await relay.ReadyAsync();
        await relay.PutAsync("r", "");
        using var call = await function.NextAsync();
        Assert.Equal(HttpStatusCode.NotFound, (await ReadAsync(relay, "from=0")).Status);
        Assert.Equal(HttpStatusCode.NotFound, (await relay.CallAsync(HttpMethod.Post, "runs/r/body?from=0")).Status);
        var order = RelayUnderTest.Order();
        order.BodyBytes = 3;
        Assert.Contains("bad-order", (await relay.TryPutAsync("r2", [], order)).Text, StringComparison.Ordinal);
    }

    private static RunOrder Order(string path = "/x", long unreadMs = 0)
    {
        var order = RelayUnderTest.Order(path: path);
        order.Headers["x-fc-control-path"] = "/http-invoke";
        (order.Streams, order.UnreadMs) = (true, unreadMs);
        return order;
    }

    private static async Task<(HttpStatusCode Status, string Text)> ReadAsync(RelayUnderTest relay, string query, string run = "r")
    {
        var (status, body) = await relay.CallAsync(HttpMethod.Get, $"runs/{run}/answer?{query}");
        return (status, Encoding.UTF8.GetString(body));
    }

    private static async Task<BodyReceipt> SendAsync(RelayUnderTest relay, long from, byte[] part, bool last)
    {
        var (status, text) = await relay.CallAsync(HttpMethod.Post, $"runs/r/body?from={from}&last={(last ? 1 : 0)}&waitMs=60000", part);
        Assert.Equal(HttpStatusCode.OK, status);
        return JsonSerializer.Deserialize(text, Json.Default.BodyReceipt)!;
    }
}
