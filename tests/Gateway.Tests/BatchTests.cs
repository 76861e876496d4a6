using System.Net;
using System.Text;
using System.Text.Json;

namespace GpuTasks.Gateway.Tests;

public sealed class BatchTests : IAsyncLifetime
{
    private const string Path = "/v1/functions/f/tasks:batch";
    private GatewayServer server = null!;

    public async ValueTask InitializeAsync()
    {
        server = await GatewayServer.StartAsync(("MaxAsyncPayloadBytes", "1024"), ("MaxBatchBodyBytes", "4000000"));
        await server.CreateAsync("f");
    }

    public ValueTask DisposeAsync() => server.DisposeAsync();

    [Fact]
    public async Task Each_line_is_answered_in_its_place()
    {
        var lines = await BatchAsync(
            """{"id":"a","payload":"one"}""",
            "",
            """{"id":"a","payload":"two"}""",
            """{"payload":"\u0000 \u00e9 and \uD83D\uDE00","priority":9}""" + "\r",
            """{"id":"b","payloadBase64":"AP8="}""",
            "{}");
        Assert.Equal(["accepted", "duplicate", "accepted", "accepted", "accepted"], lines.Select(line => line.GetProperty("status").GetString()));
        Assert.Equal("one", Payload("a"));
        Assert.Equal("\0 é and 😀", Payload(Id(lines[2])));
        Assert.Equal([0x00, 0xFF], server.Platform.Submissions[Key("b")].Payload);
        Assert.Equal((9, 0), (server.Platform.Submissions[Key(Id(lines[2]))].Priority, server.Platform.Submissions[Key("b")].Priority));
        Assert.Empty(Payload(Id(lines[4])));
        Assert.NotEqual(Id(lines[2]), Id(lines[4]));
    }

    [Theory]
    [InlineData("no json", "InvalidArgument")]
    [InlineData("[]", "InvalidArgument")]
    [InlineData("""{"payload":"x"} {}""", "InvalidArgument")]
    [InlineData("""{"payload":"x" """, "InvalidArgument")]
    [InlineData("""{"payload":"\ud800"}""", "InvalidArgument")]
    [InlineData("""{"payload":{"a":1}}""", "InvalidArgument")]
    [InlineData("""{"payload":"x","payloadBase64":"AA=="}""", "InvalidArgument")]
    [InlineData("""{"payloadBase64":"?"}""", "InvalidArgument")]
    [InlineData("""{"id":"1a"}""", "InvalidArgument")]
    [InlineData("""{"id":"a/b"}""", "InvalidArgument")]
    [InlineData("""{"id":7}""", "InvalidArgument")]
    [InlineData("""{"id":"a","id":"b"}""", "InvalidArgument")]
    [InlineData("""{"priority":10}""", "InvalidArgument")]
    [InlineData("""{"priority":1.5}""", "InvalidArgument")]
    [InlineData("""{"prioritty":1}""", "InvalidArgument")]
    public async Task A_bad_line_is_refused_and_the_others_are_not(string bad, string code)
    {
        var lines = await BatchAsync("""{"id":"before"}""", bad, """{"id":"after"}""");
        Assert.Equal(["accepted", "refused", "accepted"], lines.Select(line => line.GetProperty("status").GetString()));
        Assert.Equal(code, lines[1].GetProperty("code").GetString());
        Assert.NotEmpty(lines[1].GetProperty("message").GetString()!);
        Assert.Equal(2, server.Platform.Submissions.Count);
    }

    [Fact]
    public async Task An_event_that_is_too_long_is_refused_under_its_id()
    {
        var lines = await BatchAsync($$"""{"id":"long","payload":"{{new string('x', 1025)}}"}""", $$"""{"id":"fits","payload":"{{new string('x', 1024)}}"}""");
        Assert.Equal(("long", "EntityTooLarge"), (Id(lines[0]), lines[0].GetProperty("code").GetString()));
        Assert.Equal("accepted", lines[1].GetProperty("status").GetString());
    }

    [Fact]
    public async Task Ten_thousand_tasks_are_taken_and_one_more_is_not()
    {
        var all = Enumerable.Range(0, 10_000).Select(i => $$"""{"id":"t{{i}}"}""").ToArray();
        var lines = await BatchAsync(all);
        Assert.Equal(Enumerable.Range(0, 10_000).Select(i => $"t{i}"), lines.Select(Id));
        Assert.Equal(10_000, server.Platform.Submissions.Count);
        (await server.CallAsync("POST", Path, string.Join('\n', [.. all, "{}"]))).Is(400, "InvalidArgument");
        Assert.Equal(10_000, server.Platform.Submissions.Count);
    }

    [Fact]
    public async Task A_batch_that_cannot_be_one_is_refused_as_a_whole()
    {
        (await server.CallAsync("POST", Path, "")).Is(400, "InvalidArgument");
        (await server.CallAsync("POST", Path, "\n \n")).Is(400, "InvalidArgument");
        (await server.CallAsync("POST", Path, new string('x', 4_000_001))).Is(400, "EntityTooLarge");
        (await server.CallAsync("POST", "/v1/functions/missing/tasks:batch", "{}")).Is(404, "FunctionNotFound");
        (await server.CallAsync("POST", Path, "{}", key: GatewayServer.OperatorKey)).Is(403, "AccessDenied");
        (await server.CallAsync("POST", Path, "{}", key: GatewayServer.OtherApiKey)).Is(404, "FunctionNotFound");
        Assert.Empty(server.Platform.Submissions);
    }

    [Fact]
    public async Task What_the_store_cannot_take_is_refused_to_be_repeated_and_the_rest_is_not_tried()
    {
        server.Platform.Full = id => id == "t5";
        var lines = await BatchAsync([.. Enumerable.Range(0, 6_000).Select(i => $$"""{"id":"t{{i}}"}""")]);
        Assert.Equal("ResourceThrottled", lines[5].GetProperty("code").GetString());
        Assert.Equal("accepted", lines[4].GetProperty("status").GetString());
        Assert.Equal("ResourceThrottled", lines[^1].GetProperty("code").GetString());
        Assert.False(server.Platform.Submissions.ContainsKey(Key("t5999")));
        Assert.All(lines, line => Assert.Equal(line.GetProperty("status").GetString() == "accepted", server.Platform.Submissions.ContainsKey(Key(Id(line)))));
    }

    [Fact]
    public async Task Ids_need_task_mode()
    {
        await server.CreateAsync("plain", taskMode: false);
        var answer = await server.CallAsync("POST", "/v1/functions/plain/tasks:batch", "{\"id\":\"a\"}\n{}");
        var lines = Lines(answer);
        Assert.Equal(["refused", "accepted"], lines.Select(line => line.GetProperty("status").GetString()));
        Assert.False(Assert.Single(server.Platform.Submissions.Values).Recorded);
    }

    [Fact]
    public async Task A_signed_batch_is_checked_against_its_hash()
    {
        var answer = await server.SignedAsync("POST", Path, """{"id":"signed"}""");
        Assert.Equal("accepted", Lines(answer).Single().GetProperty("status").GetString());
    }

    private static List<JsonElement> Lines(Answer answer)
    {
        Assert.True(answer.Status == HttpStatusCode.Accepted, answer.Text);
        Assert.Equal("application/x-ndjson", answer.ContentType);
        return [.. answer.Text.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => JsonDocument.Parse(line).RootElement)];
    }

    private static string Id(JsonElement line) => line.GetProperty("id").GetString()!;

    private static string Key(string id) => $"{GatewayServer.Account}/f/{id}";

    private string Payload(string id) => Encoding.UTF8.GetString(server.Platform.Submissions[Key(id)].Payload);

    private async Task<List<JsonElement>> BatchAsync(params string[] lines) =>
        Lines(await server.CallAsync("POST", Path, string.Join('\n', lines) + "\n"));
}
