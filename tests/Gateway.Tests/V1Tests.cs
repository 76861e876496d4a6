using System.Net;
using GpuTasks.Nodes;
using GpuTasks.Quota;
using GpuTasks.Tasks;

namespace GpuTasks.Gateway.Tests;

public sealed class V1Tests : IAsyncLifetime
{
    private const string Task1 = "/v1/functions/f/tasks/t1";
    private static readonly TaskKey Key = new(GatewayServer.Account, "f", "t1");
    private GatewayServer server = null!;

    public async ValueTask InitializeAsync()
    {
        server = await GatewayServer.StartAsync();
        await server.CreateAsync("f");
        server.Platform.Put(GatewayServer.Account, "f", new TaskSnapshot
        {
            Key = Key,
            Status = GpuTaskStatus.Running,
            RequestId = "r1",
            Qualifier = "LATEST",
            EnqueuedAt = DateTimeOffset.UnixEpoch.AddMilliseconds(1_700_000_000_123),
            RunStartedAt = DateTimeOffset.UnixEpoch.AddMilliseconds(1_700_000_001_000),
            Attempt = 2,
            Retries = 1,
            PlatformFaults = 3,
            Node = "node-2",
            InstanceId = "i-9",
            Outcome = RunOutcome.GpuFault,
            ContactLostSince = DateTimeOffset.UnixEpoch.AddMilliseconds(1_700_000_002_000),
            Payload = "in"u8.ToArray(),
        });
    }

    public ValueTask DisposeAsync() => server.DisposeAsync();

    [Fact]
    public async Task A_task_is_shown_in_full()
    {
        var task = (await server.CallAsync("GET", Task1)).Json;
        Assert.Equal("Running", task.GetProperty("status").GetString());
        Assert.False(task.GetProperty("final").GetBoolean());
        Assert.Equal(1_700_000_000_123, task.GetProperty("enqueuedAt").GetInt64());
        Assert.Equal(1_700_000_002_000, task.GetProperty("contactLostSince").GetInt64());
        Assert.Equal(3, task.GetProperty("platformFaults").GetInt32());
        Assert.Equal("GpuFault", task.GetProperty("outcome").GetString());
        Assert.Equal("in", task.GetProperty("payload").GetString());
        Assert.Equal(System.Text.Json.JsonValueKind.Null, task.GetProperty("endedAt").ValueKind);
    }

    [Fact]
    public async Task The_answer_is_given_as_the_bytes_it_had()
    {
        (await server.CallAsync("GET", $"{Task1}/result")).Is(404, "ResultNotFound");
        server.Platform.Put(GatewayServer.Account, "f", server.Platform.Tasks[Key.ToString()] with { Status = GpuTaskStatus.Succeeded, Result = "{ as it was }"u8.ToArray(), ResultBytes = 13 });
        var answer = await server.CallAsync("GET", $"{Task1}/result");
        Assert.Equal("{ as it was }", answer.Text);
        Assert.Equal("false", answer.Headers["X-Truncated"]);
        Assert.Equal(13, (await server.CallAsync("GET", Task1)).Json.GetProperty("resultBytes").GetInt64());
        (await server.CallAsync("GET", "/v1/functions/f/tasks/none/result")).Is(404, "AsyncTaskNotFound");
    }

    [Fact]
    public async Task Logs_are_read_by_cursor_to_their_end()
    {
        server.Platform.Logs[("node-2", Key.ToString(), 2)] = "0123456789"u8.ToArray();
        var first = await server.CallAsync("GET", $"{Task1}/logs?limit=6");
        Assert.Equal("012345", first.Text);
        Assert.Equal("6", first.Headers["X-Next-Cursor"]);
        Assert.Equal("0", first.Headers["X-Dropped-Bytes"]);
        Assert.Equal("false", first.Headers["X-Complete"]);
        Assert.Equal("2", first.Headers["X-Attempt"]);
        var last = await server.CallAsync("GET", $"{Task1}/logs?cursor=6");
        Assert.Equal("6789", last.Text);
        Assert.Equal("true", last.Headers["X-Complete"]);
    }

    [Fact]
    public async Task The_log_of_an_earlier_attempt_is_found_on_another_node()
    {
        server.Platform.Nodes.Add(Node("node-1", reachable: true));
        server.Platform.Nodes.Add(Node("node-2", reachable: true));
        server.Platform.Nodes.Add(Node("node-3", reachable: false));
        server.Platform.Logs[("node-1", Key.ToString(), 1)] = "first"u8.ToArray();
        Assert.Equal("first", (await server.CallAsync("GET", $"{Task1}/logs?attempt=1")).Text);
        (await server.CallAsync("GET", $"{Task1}/logs")).Is(404, "LogNotFound");
        (await server.CallAsync("GET", $"{Task1}/logs?attempt=3")).Is(400, "InvalidArgument");
        (await server.CallAsync("GET", $"{Task1}/logs?limit=1048577")).Is(400, "InvalidArgument");
        (await server.CallAsync("GET", $"{Task1}/logs?cursor=-1")).Is(400, "InvalidArgument");
        Assert.DoesNotContain(server.Platform.Calls, call => call.StartsWith("log node-3", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_task_that_never_ran_has_an_empty_log()
    {
        server.Platform.Put(GatewayServer.Account, "f", server.Platform.Tasks[Key.ToString()] with { Attempt = 0, Node = "", Status = GpuTaskStatus.Enqueued });
        var log = await server.CallAsync("GET", $"{Task1}/logs");
        Assert.Equal(HttpStatusCode.OK, log.Status);
        Assert.Empty(log.Text);
        Assert.Equal("false", log.Headers["X-Complete"]);
    }

    [Fact]
    public async Task Counts_add_up()
    {
        GpuTaskStatus[] statuses = [GpuTaskStatus.Enqueued, GpuTaskStatus.Retrying, GpuTaskStatus.Stopping, GpuTaskStatus.Succeeded, GpuTaskStatus.Failed, GpuTaskStatus.Expired];
        foreach (var status in statuses)
        {
            server.Platform.Put(GatewayServer.Account, "f", server.Platform.Tasks[Key.ToString()] with { Key = Key with { TaskId = status.ToString() }, Status = status });
        }

        var counts = (await server.CallAsync("GET", "/v1/functions/f/counts")).Json;
        Assert.Equal(2, counts.GetProperty("waiting").GetInt64());
        Assert.Equal(2, counts.GetProperty("running").GetInt64());
        Assert.Equal(3, counts.GetProperty("done").GetInt64());
        Assert.Equal(1, counts.GetProperty("byStatus").GetProperty("Failed").GetInt64());
        Assert.Equal(0, counts.GetProperty("byStatus").GetProperty("Stopped").GetInt64());
    }

    [Fact]
    public async Task A_queue_says_why_it_waits()
    {
        var status = (await server.CallAsync("GET", "/v1/functions/f/status")).Json;
        Assert.Contains("are taken", status.GetProperty("waitReason").GetString()!, StringComparison.Ordinal);
        Assert.Equal("ImageError", status.GetProperty("lastFailure").GetProperty("outcome").GetString());
        Assert.Equal("Ready", status.GetProperty("instances")[0].GetProperty("state").GetString());
    }

    [Fact]
    public async Task Nodes_are_the_operator_s_to_see_and_quota_everybody_s_own()
    {
        server.Platform.Nodes.Add(Node("node-1", reachable: true));
        (await server.CallAsync("GET", "/v1/nodes")).Is(403, "AccessDenied");
        var node = (await server.CallAsync("GET", "/v1/nodes", key: GatewayServer.OperatorKey)).Json.GetProperty("nodes")[0];
        Assert.Equal("node-1", node.GetProperty("node").GetString());
        Assert.Equal(4_096, node.GetProperty("cards")[0].GetProperty("leasedMiB").GetInt32());
        Assert.Equal(7, node.GetProperty("cards")[0].GetProperty("epoch").GetInt64());

        Assert.Equal(30_000, (await server.CallAsync("GET", "/v1/quota")).Json.GetProperty("limitMilliCards").GetInt32());
        (await server.CallAsync("GET", "/v1/quota", key: GatewayServer.OperatorKey)).Is(400, "InvalidArgument");
        var other = await server.CallAsync("GET", "/v1/quota?account=77", key: GatewayServer.OperatorKey);
        Assert.Equal("77", other.Json.GetProperty("account").GetString());
    }

    [Fact]
    public async Task Health_needs_no_key_and_readiness_needs_the_platform()
    {
        using var health = new HttpRequestMessage(HttpMethod.Get, "/healthz");
        Assert.Equal(HttpStatusCode.OK, (await server.SendAsync(health, null)).Status);
        using var ready = new HttpRequestMessage(HttpMethod.Get, "/readyz");
        Assert.Equal(HttpStatusCode.OK, (await server.SendAsync(ready, null)).Status);

        server.Platform.Fault = new TimeoutException();
        for (var until = DateTimeOffset.UtcNow.AddSeconds(10); ;)
        {
            using var again = new HttpRequestMessage(HttpMethod.Get, "/readyz");
            if (await server.SendAsync(again, null) is { Status: not HttpStatusCode.OK } answer)
            {
                answer.Is(503, "ResourceThrottled");
                break;
            }

            Assert.True(DateTimeOffset.UtcNow < until);
            await Task.Delay(100, TestContext.Current.CancellationToken);
        }

        using var still = new HttpRequestMessage(HttpMethod.Get, "/healthz");
        Assert.Equal(HttpStatusCode.OK, (await server.SendAsync(still, null)).Status);
    }

    private static NodeStatus Node(string name, bool reachable) => new(
        new NodeReport
        {
            Node = name,
            BootId = "b",
            CpuMilli = 8_000,
            MemoryMiB = 65_536,
            DiskMiB = 100_000,
            Cards = [new CardReport { Uuid = "GPU-1", Type = "fc.gpu.tesla.1", MemoryMiB = 16_384, Simulated = true }],
            Adopted = true,
        },
        reachable,
        DateTimeOffset.UnixEpoch,
        [new Lease { InstanceId = "i-1", Account = GatewayServer.Account, Function = "f", Node = name, Cards = [new CardShare("GPU-1", 4_096, 250, 7)] }],
        new Dictionary<string, long> { ["GPU-1"] = 7 });
}
