using System.Net;
using System.Text;
using System.Text.Json;
using GpuTasks.Destinations;
using GpuTasks.Tasks;

namespace GpuTasks.Gateway.Tests;

public sealed class DestinationTests
{
    private const string Config = "/2023-03-30/functions/f/async-invoke-config";

    /// <summary>A dead letter of the first account.</summary>
    internal static DeadLetterView Dead(string function, string taskId) => new()
    {
        Key = new TaskKey(GatewayServer.Account, function, taskId),
        Status = GpuTaskStatus.Failed,
        DeliveryId = $"d-{taskId}",
        Target = "https://hooks.example/secret-path",
        Attempts = 3,
        Fault = "The receiver answered 410.",
        EndedAt = DateTimeOffset.FromUnixTimeMilliseconds(1_000),
        At = DateTimeOffset.FromUnixTimeMilliseconds(2_000),
        KeptUntil = DateTimeOffset.FromUnixTimeMilliseconds(3_000),
        Message = Encoding.UTF8.GetBytes("""{"requestPayload":"secret-payload"}"""),
    };

    [Theory]
    [InlineData("https://hooks.example/a?b=c")]
    [InlineData("topic:ends")]
    [InlineData("acs:mns:local-1:1000000000000001:/topics/ends/messages")]
    [InlineData("acs:fc:local-1::functions/g")]
    public async Task A_destination_may_be_a_function_a_webhook_or_a_topic(string target)
    {
        await using var server = await GatewayServer.StartAsync();
        await server.CreateAsync("f");
        var put = await server.CallAsync("PUT", Config, $$$$"""{"destinationConfig":{"onSuccess":{"destination":"{{{{target}}}}"}}}""");
        Assert.Equal(HttpStatusCode.OK, put.Status);
        Assert.Equal(target, put.Json.GetProperty("destinationConfig").GetProperty("onSuccess").GetProperty("destination").GetString());
    }

    [Theory]
    [InlineData("http://hooks.example/", "must begin with https://")]
    [InlineData("https://user:pw@hooks.example/", "must be a function")]
    [InlineData("ftp://hooks.example/", "must be a function")]
    [InlineData("topic:1", "must be a function")]
    [InlineData("acs:mns:local-1:2:/topics/ends/messages", "your own account")]
    [InlineData("acs:fc:local-1:2:functions/g", "your own account")]
    public async Task A_destination_that_may_not_be_used_is_refused_with_its_field(string target, string rule)
    {
        await using var server = await GatewayServer.StartAsync();
        await server.CreateAsync("f");
        var put = await server.CallAsync("PUT", Config, $$$$"""{"destinationConfig":{"onFailure":{"destination":"{{{{target}}}}"}}}""");
        put.Is(400, "InvalidArgument");
        Assert.Contains("destinationConfig.onFailure.destination: ", put.Message!, StringComparison.Ordinal);
        Assert.Contains(rule, put.Message!, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_webhook_secret_is_told_once_and_may_be_brought_along()
    {
        await using var server = await GatewayServer.StartAsync();
        Assert.Empty((await server.CallAsync("GET", "/v1/webhooks/secret")).Json.GetProperty("secrets").EnumerateArray());
        var made = (await server.CallAsync("POST", "/v1/webhooks/secret:rotate")).Json;
        Assert.True(WebhookSignature.IsSecret(made.GetProperty("secret").GetString()!));
        Assert.Equal(made.GetProperty("secret").GetString(), server.Platform.WebhookSecrets[GatewayServer.Account][0]);
        Assert.Contains(server.Platform.Calls, call => call == $"rotate {GatewayServer.Account} 1.00:00:00");

        var own = WebhookSignature.NewSecret();
        var brought = await server.CallAsync("POST", "/v1/webhooks/secret:rotate", $$"""{"secret":"{{own}}","overlapSeconds":60}""");
        Assert.Equal((own, 2), (brought.Json.GetProperty("secret").GetString(), brought.Json.GetProperty("secrets").GetArrayLength()));
        Assert.Equal(JsonValueKind.Null, brought.Json.GetProperty("secrets")[0].GetProperty("expiresAt").ValueKind);
        Assert.Contains(server.Platform.Calls, call => call == $"rotate {GatewayServer.Account} 00:01:00");
        Assert.DoesNotContain("whsec_", (await server.CallAsync("GET", "/v1/webhooks/secret")).Text, StringComparison.Ordinal);
        foreach (var bad in new[] { """{"secret":"x"}""", """{"secret":"whsec_AAAA"}""", """{"overlapSeconds":-1}""", """{"overlapSeconds":99999999}""" })
        {
            (await server.CallAsync("POST", "/v1/webhooks/secret:rotate", bad)).Is(400, "InvalidArgument");
        }

        // What was sent stays out of the log of changes.
        Assert.Contains(server.Platform.Audit, entry => entry.Action == "RotateWebhookSecret");
        Assert.DoesNotContain(server.Platform.Audit, entry => entry.ToString().Contains("whsec_", StringComparison.Ordinal));
        (await server.CallAsync("GET", "/v1/webhooks/secret", key: GatewayServer.OperatorKey)).Is(403, "AccessDenied");
    }

    [Fact]
    public async Task Dead_letters_are_listed_in_pages_shown_replayed_and_deleted()
    {
        await using var server = await GatewayServer.StartAsync();
        foreach (var i in Enumerable.Range(0, 5))
        {
            server.Platform.DeadLetters[$"{GatewayServer.Account}/f{i % 2}/t{i}"] = Dead($"f{i % 2}", $"t{i}");
        }

        var found = new List<string?>();
        for (string? path = "/v1/dead-letters?limit=2"; path is not null;)
        {
            var page = (await server.CallAsync("GET", path)).Json;
            found.AddRange(page.GetProperty("deadLetters").EnumerateArray().Select(dead => dead.GetProperty("taskId").GetString()));
            path = page.TryGetProperty("nextToken", out var token) ? $"/v1/dead-letters?limit=2&nextToken={token.GetString()}" : null;
        }

        Assert.Equal(["t0", "t1", "t2", "t3", "t4"], found);
        (await server.CallAsync("GET", "/v1/dead-letters?nextToken=nonsense!")).Is(400, "InvalidArgument");
        Assert.Equal(2, (await server.CallAsync("GET", "/v1/dead-letters?function=f1")).Json.GetProperty("deadLetters").GetArrayLength());
        var one = (await server.CallAsync("GET", "/v1/functions/f0/tasks/t0/dead-letter")).Json;
        Assert.Equal(("secret-payload", 3, 2_000), (one.GetProperty("message").GetProperty("requestPayload").GetString(), one.GetProperty("attempts").GetInt32(), one.GetProperty("givenUpAt").GetInt64()));

        Assert.Equal(HttpStatusCode.NoContent, (await server.CallAsync("POST", "/v1/functions/f0/tasks/t0/dead-letter:replay")).Status);
        Assert.Equal(HttpStatusCode.NoContent, (await server.CallAsync("DELETE", "/v1/functions/f0/tasks/t2/dead-letter")).Status);
        foreach (var (method, path) in new[] { ("GET", "dead-letter"), ("POST", "dead-letter:replay"), ("DELETE", "dead-letter") })
        {
            (await server.CallAsync(method, $"/v1/functions/f0/tasks/t0/{path}")).Is(404, "DeadLetterNotFound");
        }

        Assert.Equal(2, (await server.CallAsync("POST", "/v1/dead-letters:replay?function=f1")).Json.GetProperty("replayed").GetInt32());
        var rest = (await server.CallAsync("POST", "/v1/dead-letters:replay")).Json;
        Assert.Equal((1, false), (rest.GetProperty("replayed").GetInt32(), rest.GetProperty("isMore").GetBoolean()));
    }

    [Fact]
    public async Task Topics_are_listed_read_by_number_and_deleted()
    {
        await using var server = await GatewayServer.StartAsync();
        foreach (var name in new[] { "a", "b", "c" })
        {
            server.Platform.Topics[(GatewayServer.Account, name)] = [.. Enumerable.Range(1, 3).Select(i => new TopicMessage(i, $"d-{i}", DateTimeOffset.FromUnixTimeMilliseconds(i), Encoding.UTF8.GetBytes($$"""{"n":{{i}}}""")))];
        }

        var first = (await server.CallAsync("GET", "/v1/topics?limit=2")).Json;
        Assert.Equal(["a", "b"], first.GetProperty("topics").EnumerateArray().Select(topic => topic.GetProperty("topic").GetString()));
        var second = (await server.CallAsync("GET", $"/v1/topics?limit=2&nextToken={first.GetProperty("nextToken").GetString()}")).Json;
        Assert.Equal("c", Assert.Single(second.GetProperty("topics").EnumerateArray()).GetProperty("topic").GetString());

        var page = (await server.CallAsync("GET", "/v1/topics/a/messages?limit=2")).Json;
        Assert.Equal([1, 2], page.GetProperty("messages").EnumerateArray().Select(message => message.GetProperty("message").GetProperty("n").GetInt32()));
        page = (await server.CallAsync("GET", $"/v1/topics/a/messages?after={page.GetProperty("next").GetInt64()}")).Json;
        Assert.Equal((1, 3), (page.GetProperty("messages").GetArrayLength(), page.GetProperty("next").GetInt64()));
        page = (await server.CallAsync("GET", "/v1/topics/a/messages?after=3")).Json;
        Assert.Equal((0, 3), (page.GetProperty("messages").GetArrayLength(), page.GetProperty("next").GetInt64()));
        (await server.CallAsync("GET", "/v1/topics/a/messages?after=-1")).Is(400, "InvalidArgument");
        (await server.CallAsync("GET", "/v1/topics/1/messages")).Is(400, "InvalidArgument");
        Assert.Equal(HttpStatusCode.NoContent, (await server.CallAsync("DELETE", "/v1/topics/a")).Status);
        (await server.CallAsync("DELETE", "/v1/topics/a")).Is(404, "TopicNotFound");
    }

    [Fact]
    public async Task A_task_shows_what_its_destination_is_still_owed()
    {
        await using var server = await GatewayServer.StartAsync();
        await server.CreateAsync("f");
        server.Platform.Put(GatewayServer.Account, "f", new TaskSnapshot
        {
            Key = new TaskKey(GatewayServer.Account, "f", "t"),
            Status = GpuTaskStatus.Succeeded,
            RequestId = "r",
            Qualifier = "LATEST",
            DestinationStatus = "Retrying",
            Delivery = new DeliveryView("d-1", "https://hooks.example/", 4, "The receiver answered 503.", DateTimeOffset.FromUnixTimeMilliseconds(5_000)),
        });
        var task = (await server.CallAsync("GET", "/v1/functions/f/tasks/t")).Json;
        var delivery = task.GetProperty("delivery");
        Assert.Equal(("Retrying", "d-1", 4, 5_000), (task.GetProperty("destinationStatus").GetString(), delivery.GetProperty("deliveryId").GetString(), delivery.GetProperty("attempts").GetInt32(), delivery.GetProperty("nextAt").GetInt64()));
        Assert.Equal("Retrying", (await server.CallAsync("GET", "/2023-03-30/functions/f/async-tasks/t")).Json.GetProperty("destinationStatus").GetString());
    }
}
