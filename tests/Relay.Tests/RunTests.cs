using System.Net;
using System.Text;
using System.Text.Json;

namespace GpuTasks.Relay.Tests;

public sealed class RunTests
{
    [Fact]
    public async Task An_order_becomes_a_request_and_its_answer_is_kept()
    {
        using var function = new ScriptedFunction();
        var config = new RelayConfig { Port = function.Port, Headers = { ["x-fc-function-name"] = "f", ["x-both"] = "config" } };
        await using var relay = await RelayUnderTest.WithScriptAsync(config, "exec sleep 1000");
        await relay.ReadyAsync();

        var order = RelayUnderTest.Order(path: "/invoke?x=1");
        order.Headers["x-fc-request-id"] = "r-1";
        order.Headers["x-both"] = "order";
        await relay.PutAsync("r-1", "event", order);
        using var call = await function.NextAsync();
        Assert.StartsWith("POST /invoke?x=1 HTTP/1.1\n", call.Head, StringComparison.Ordinal);
        Assert.Contains("x-fc-function-name: f", call.Head, StringComparison.Ordinal);
        Assert.Contains("x-fc-request-id: r-1", call.Head, StringComparison.Ordinal);
        Assert.Contains("x-both: order", call.Head, StringComparison.Ordinal);
        Assert.Equal("event", Encoding.UTF8.GetString(call.Body));
        Assert.Equal(HttpStatusCode.Conflict, (await relay.CallAsync(HttpMethod.Get, "runs/r-1/response")).Status);
        await call.SendAsync("HTTP/1.1 418 Teapot\r\nContent-Type: text/x\r\nX-Fc-Status: 404\r\nContent-Length: 6\r\n\r\nanswer");

        var run = await relay.EndOfAsync("r-1");
        Assert.Equal((Outcomes.Answered, 418, "404", "text/x", 6, false), (run.Outcome, run.StatusCode, run.FcStatus, run.ContentType, run.ResponseBytes, run.Truncated));
        Assert.Equal("told back", run.Context);
        Assert.Equal("answer", await relay.ResponseAsync("r-1"));
        Assert.Equal(States.Ready, (await relay.StatusAsync()).State);
    }

    [Fact]
    public async Task Headers_of_an_answer_are_told_if_they_were_asked_for_repeated_ones_apart_and_no_more_than_fit()
    {
        using var function = new ScriptedFunction();
        await using var relay = await RelayUnderTest.WithScriptAsync(new RelayConfig { Port = function.Port }, "exec sleep 1000");
        await relay.ReadyAsync();
        var order = RelayUnderTest.Order();
        (order.Method, order.Path, order.AnswerHeaders) = ("DELETE", "/a%2Fb?x=1", true);
        await relay.PutAsync("r-1", "", order);
        using (var call = await function.NextAsync())
        {
            Assert.Equal("DELETE /a%2Fb?x=1 HTTP/1.1", call.FirstLine);
            await call.SendAsync($"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nX-Long: {new string('x', 17_000)}\r\nset-cookie: b=2\r\nContent-Length: 0\r\n\r\n");
        }

        Assert.Equal(["Set-Cookie", "a=1", "set-cookie", "b=2", "Content-Length", "0"], (await relay.EndOfAsync("r-1")).Headers!);
        await relay.PutAsync("r-2", "");
        using var next = await function.NextAsync();
        await next.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        Assert.Null((await relay.EndOfAsync("r-2")).Headers);
    }

    [Theory]
    [InlineData("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nTrailer: t\r\n\r\n", "hello!", false)]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", false)]
    [InlineData("HTTP/1.1 204 No Content\r\n\r\n", "", false)]
    [InlineData("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "", false)]
    [InlineData("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "hi", false)]
    [InlineData("HTTP/1.0 200 OK\r\n\r\nuntil the end", "until the end", true)]
    [InlineData("HTTP/1.1 200\nContent-Length: 2\n\nhi", "hi", false)]
    public async Task Answers_of_every_framing_are_whole(string answer, string body, bool close)
    {
        using var function = new ScriptedFunction();
        await using var relay = await RelayUnderTest.WithScriptAsync(new RelayConfig { Port = function.Port }, "exec sleep 1000");
        await relay.ReadyAsync();
        await relay.PutAsync("r", "");
        using var call = await function.NextAsync();
        await call.SendAsync(answer);
        if (close)
        {
            call.Dispose();
        }

        Assert.Equal(Outcomes.Answered, (await relay.EndOfAsync("r")).Outcome);
        Assert.Equal(body, await relay.ResponseAsync("r"));
    }

    [Theory]
    [InlineData("")]
    [InlineData("garbage\r\n\r\n")]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort")]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\n")]
    [InlineData("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")]
    [InlineData("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")]
    [InlineData("HTTP/1.1 200 OK\r\nno colon\r\n\r\n")]
    public async Task An_answer_that_is_not_whole_is_a_disconnection_and_retires_the_instance(string answer)
    {
        using var function = new ScriptedFunction();
        await using var relay = await RelayUnderTest.WithScriptAsync(new RelayConfig { Port = function.Port }, "exec sleep 1000");
        await relay.ReadyAsync();
        await relay.PutAsync("r", "x");
        using (var call = await function.NextAsync())
        {
            await call.SendAsync(answer);
        }

        var run = await relay.EndOfAsync("r");
        Assert.Equal(Outcomes.Disconnected, run.Outcome);
        Assert.NotEmpty(run.Message);
        Assert.Equal(HttpStatusCode.NotFound, (await relay.CallAsync(HttpMethod.Get, "runs/r/response")).Status);
        Assert.False(File.Exists(Path.Combine(relay.Box, "runs", "r", "response")));
        Assert.Equal(States.Retiring, (await relay.StatusAsync()).State);
        Assert.Contains("retiring", (await relay.TryPutAsync("r2", [])).Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_head_beyond_its_bound_is_a_disconnection()
    {
        using var function = new ScriptedFunction();
        await using var relay = await RelayUnderTest.WithScriptAsync(new RelayConfig { Port = function.Port }, "exec sleep 1000");
        await relay.ReadyAsync();
        await relay.PutAsync("r", "x");
        using var call = await function.NextAsync();
        await call.SendAsync("HTTP/1.1 200 OK\r\n");
        var sending = call.SendAsync(string.Concat(Enumerable.Repeat($"x: {new string('y', 997)}\r\n", 70)));
        Assert.Equal(Outcomes.Disconnected, (await relay.EndOfAsync("r")).Outcome);
        await sending.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task An_answer_counts_although_the_request_was_not_read(bool close)
    {
        using var function = new ScriptedFunction();
        await using var relay = await RelayUnderTest.WithScriptAsync(new RelayConfig { Port = function.Port }, "exec sleep 1000");
        await relay.ReadyAsync();
        // More than the sockets' buffers hold, so that the relay is still sending.
        await relay.TryPutAsync("r", new byte[32 * 1024 * 1024]);
        using var call = await function.NextAsync(readBody: false);
        await call.AnswerAsync("too much", 413);
        if (close)
        {
            call.Dispose();
        }

        var run = await relay.EndOfAsync("r");
        Assert.Equal((Outcomes.Answered, 413), (run.Outcome, run.StatusCode));
        Assert.Equal("too much", await relay.ResponseAsync("r"));
    }

    [Fact]
    public async Task A_repeated_put_is_known_and_never_runs_twice()
    {
        var count = Path.GetTempFileName();
        await using var relay = await RelayUnderTest.WithEchoAsync(environment: new() { ["COUNT_FILE"] = count });
        await relay.ReadyAsync();
        var puts = await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => relay.TryPutAsync("r", "{}"u8.ToArray())));
        Assert.Single(puts, put => put.Status == HttpStatusCode.Created);
        Assert.Equal(7, puts.Count(put => put.Status == HttpStatusCode.OK));
        await relay.EndOfAsync("r");
        Assert.Equal(HttpStatusCode.OK, (await relay.TryPutAsync("r", "other"u8.ToArray(), RelayUnderTest.Order(epoch: 0))).Status);
        Assert.Equal("{}", await relay.ResponseAsync("r"));
        Assert.Single(await File.ReadAllLinesAsync(count, Deadline.Token));
        File.Delete(count);
    }

    [Fact]
    public async Task An_accepted_order_is_on_disk_before_the_answer()
    {
        using var function = new ScriptedFunction();
        await using var relay = await RelayUnderTest.WithScriptAsync(new RelayConfig { Port = function.Port }, "exec sleep 1000");
        await relay.ReadyAsync();
        await relay.PutAsync("r", "event");
        var folder = Path.Combine(relay.Box, "runs", "r");
        Assert.Equal("event", await File.ReadAllTextAsync(Path.Combine(folder, "request"), Deadline.Token));
        var order = JsonDocument.Parse(await File.ReadAllBytesAsync(Path.Combine(folder, "order.json"), Deadline.Token)).RootElement;
        Assert.Equal("told back", order.GetProperty("context").GetString());
        Assert.False(File.Exists(Path.Combine(folder, "state.json")));

        using var call = await function.NextAsync();
        await call.AnswerAsync("done");
        await relay.EndOfAsync("r");
        var state = JsonDocument.Parse(await File.ReadAllBytesAsync(Path.Combine(folder, "state.json"), Deadline.Token)).RootElement;
        Assert.Equal("answered", state.GetProperty("outcome").GetString());
        Assert.Equal("done", await File.ReadAllTextAsync(Path.Combine(folder, "response"), Deadline.Token));
        // An agent that is another user than the container must be able to clean up.
        Assert.Equal((UnixFileMode)0x1b6, File.GetUnixFileMode(Path.Combine(folder, "response")));
        Assert.Equal((UnixFileMode)0x1ff, File.GetUnixFileMode(folder));
    }

    [Fact]
    public async Task An_older_epoch_is_refused_and_a_newer_one_raises_the_bar()
    {
        await using var relay = await RelayUnderTest.WithEchoAsync(config => config.Epoch = 5);
        await relay.ReadyAsync();
        var (status, text) = await relay.TryPutAsync("a", [], RelayUnderTest.Order(epoch: 4));
        Assert.Equal(HttpStatusCode.Conflict, status);
        Assert.Contains("\"stale-epoch\"", text, StringComparison.Ordinal);
        await relay.PutAsync("b", "{}", RelayUnderTest.Order(epoch: 7));
        await relay.EndOfAsync("b");
        Assert.Contains("\"stale-epoch\"", (await relay.TryPutAsync("c", [], RelayUnderTest.Order(epoch: 6))).Text, StringComparison.Ordinal);
        Assert.Equal(7, (await relay.StatusAsync()).Epoch);
        Assert.Equal(HttpStatusCode.NotFound, (await relay.CallAsync(HttpMethod.Get, "runs/a")).Status);
    }

    [Fact]
    public async Task Beyond_its_concurrency_it_is_busy()
    {
        using var function = new ScriptedFunction();
        await using var relay = await RelayUnderTest.WithScriptAsync(new RelayConfig { Port = function.Port, Concurrency = 2 }, "exec sleep 1000");
        await relay.ReadyAsync();
        await relay.PutAsync("a", "");
        using var a = await function.NextAsync();
        await relay.PutAsync("b", "");
        using var b = await function.NextAsync();
        var (status, text) = await relay.TryPutAsync("c", []);
        Assert.Equal(HttpStatusCode.Conflict, status);
        Assert.Contains("\"busy\"", text, StringComparison.Ordinal);
        await a.AnswerAsync();
        await relay.EndOfAsync("a");
        await relay.PutAsync("c", "");
        using var c = await function.NextAsync();
        await b.AnswerAsync();
        await c.AnswerAsync();
        await relay.EndOfAsync("c");
    }

    [Theory]
    [InlineData("length")]
    [InlineData("chunked")]
    public async Task A_long_answer_is_cut_at_its_bound(string framing)
    {
        await using var relay = await RelayUnderTest.WithEchoAsync(config => config.MaxResponseBytes = 100_000);
        await relay.ReadyAsync();
        await relay.PutAsync("r", $$"""{"mode":"answer","bytes":3000000,"framing":"{{framing}}"}""");
        var run = await relay.EndOfAsync("r");
        Assert.Equal((Outcomes.Answered, 100_000, true), (run.Outcome, run.ResponseBytes, run.Truncated));
        Assert.Equal(new string('a', 100_000), await relay.ResponseAsync("r"));
    }

    [Fact]
    public async Task A_large_event_and_answer_pass_unharmed()
    {
        await using var relay = await RelayUnderTest.WithEchoAsync();
        await relay.ReadyAsync();
        var body = new byte[20 * 1024 * 1024];
        new Random(1).NextBytes(body);
        Assert.Equal(HttpStatusCode.Created, (await relay.TryPutAsync("r", body)).Status);
        await relay.EndOfAsync("r");
        var (_, answer) = await relay.CallAsync(HttpMethod.Get, "runs/r/response");
        Assert.True(body.AsSpan().SequenceEqual(answer));
    }

    [Fact]
    public async Task An_acknowledged_run_is_gone()
    {
        using var function = new ScriptedFunction();
        await using var relay = await RelayUnderTest.WithScriptAsync(new RelayConfig { Port = function.Port }, "exec sleep 1000");
        await relay.ReadyAsync();
        await relay.PutAsync("r", "");
        using var call = await function.NextAsync();
        Assert.Equal(HttpStatusCode.Conflict, (await relay.CallAsync(HttpMethod.Post, "runs/r/ack")).Status);
        await call.AnswerAsync();
        await relay.EndOfAsync("r");
        Assert.Equal(HttpStatusCode.NoContent, (await relay.CallAsync(HttpMethod.Post, "runs/r/ack")).Status);
        Assert.Equal(HttpStatusCode.NoContent, (await relay.CallAsync(HttpMethod.Post, "runs/r/ack")).Status);
        Assert.Equal(HttpStatusCode.NotFound, (await relay.CallAsync(HttpMethod.Get, "runs/r")).Status);
        Assert.False(Directory.Exists(Path.Combine(relay.Box, "runs", "r")));
        Assert.Empty((await relay.StatusAsync()).Runs);
    }
}
