using System.Net;
using System.Text.Json;
using GpuTasks.Dispatch;
using GpuTasks.Functions;
using GpuTasks.Nodes;
using GpuTasks.Tasks;

namespace GpuTasks.Gateway.Tests;

public sealed class FunctionEndpointTests : IAsyncLifetime
{
    private const string Functions = "/2023-03-30/functions";
    private GatewayServer server = null!;

    public async ValueTask InitializeAsync() => server = await GatewayServer.StartAsync();

    public ValueTask DisposeAsync() => server.DisposeAsync();

    /// <summary>The body that the official SDK was seen to send.</summary>
    private const string SdkBody = """
        {"cpu":8,"customContainerConfig":{"healthCheckConfig":{"failureThreshold":60,"httpGetUrl":"/ready","initialDelaySeconds":0,"periodSeconds":1,"successThreshold":1,"timeoutSeconds":1},"image":"fc-acceptance:latest","port":9000},"description":"acceptance","diskSize":512,"environmentVariables":{"K":"v"},"functionName":"f-main","gpuConfig":{"gpuMemorySize":16384,"gpuType":"fc.gpu.tesla.1"},"handler":"index.handler","memorySize":32768,"runtime":"custom-container","timeout":600}
        """;

    [Fact]
    public async Task What_the_sdk_sends_is_understood_in_full()
    {
        var answer = await server.CallAsync("POST", Functions, SdkBody);
        Assert.Equal(HttpStatusCode.OK, answer.Status);
        var spec = server.Platform.Functions[$"{GatewayServer.Account}/f-main"].Spec;
        Assert.Equal(8, spec.Cpu);
        Assert.Equal(32_768, spec.MemoryMiB);
        Assert.Equal(new GpuSpec("fc.gpu.tesla.1", 16_384), spec.Gpu);
        Assert.Equal(600, spec.TimeoutSeconds);
        Assert.Equal("v", spec.Environment["K"]);
        Assert.Equal("fc-acceptance:latest", spec.Container.Image);
        Assert.Equal(new HealthCheckSpec { HttpGetUrl = "/ready", PeriodSeconds = 1, FailureThreshold = 60 }, spec.Container.HealthCheck);
        foreach (var field in JsonDocument.Parse(SdkBody).RootElement.EnumerateObject().Where(field => field.Name != "customContainerConfig"))
        {
            Assert.True(JsonElement.DeepEquals(field.Value, answer.Json.GetProperty(field.Name)), field.Name);
        }

        Assert.Equal($"acs:fc:local-1:{GatewayServer.Account}:functions/f-main", answer.Json.GetProperty("functionArn").GetString());
        Assert.Equal("Active", answer.Json.GetProperty("state").GetString());
        Assert.Matches(@"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", answer.Json.GetProperty("createdTime").GetString()!);
        Assert.Equal(answer.Text, (await server.CallAsync("GET", $"{Functions}/f-main?qualifier=LATEST")).Text);
    }

    [Fact]
    public async Task Fields_that_are_only_stored_come_back_and_unknown_ones_are_ignored()
    {
        var answer = await server.CallAsync("POST", Functions, GatewayServer.Function("f", """
            ,"role":"acs:ram::1:role/x","layers":["acs:fc:x:layers/a/versions/1"],"logConfig":{"project":"p","logstore":"l"},
            "nasConfig":{"userId":0,"groupId":0,"mountPoints":[{"serverAddr":"a","mountDir":"/b"}]},"vpcConfig":{"vpcId":"v","vSwitchIds":["s"]},
            "tags":[{"Key":"team","Value":"a"}],"resourceGroupId":"rg-1","someday":{"x":1},"idleTimeout":60,"internetAccess":true,
            "instanceLifecycleConfig":{"initializer":{"handler":"i","timeout":90},"preStop":{}}
            """));
        Assert.Equal(HttpStatusCode.OK, answer.Status);
        Assert.Equal("acs:ram::1:role/x", answer.Json.GetProperty("role").GetString());
        Assert.Equal("acs:fc:x:layers/a/versions/1", answer.Json.GetProperty("layers")[0].GetProperty("arn").GetString());
        Assert.Equal("p", answer.Json.GetProperty("logConfig").GetProperty("project").GetString());
        Assert.Equal("/b", answer.Json.GetProperty("nasConfig").GetProperty("mountPoints")[0].GetProperty("mountDir").GetString());
        Assert.Equal("team", answer.Json.GetProperty("tags")[0].GetProperty("Key").GetString());
        Assert.Equal("rg-1", answer.Json.GetProperty("resourceGroupId").GetString());
        Assert.False(answer.Json.TryGetProperty("someday", out _));
        var spec = server.Platform.Functions[$"{GatewayServer.Account}/f"].Spec;
        Assert.Equal(new HookSpec("i", 90), spec.Initializer);
        Assert.Null(spec.PreStop);
        Assert.Equal(60, spec.IdleTimeoutSeconds);
        Assert.True(spec.InternetAccess);
    }

    [Fact]
    public async Task The_state_says_that_an_image_is_fetched_or_cannot_be_had_and_why()
    {
        await server.CreateAsync("f");
        var revision = server.Platform.Functions[$"{GatewayServer.Account}/f"].SpecRevision;
        var pulling = new InstanceStatus { InstanceId = "i", Node = "n1", State = InstanceState.Creating, Revision = revision, PullingImage = true };
        server.Platform.Queue = new DispatcherStatus { Instances = [pulling] };
        var read = await ReadAsync();
        Assert.Equal(("Pending", "Creating", "Successful"), (read.State, read.Code, read.Update));
        Assert.Contains("n1", read.Reason!, StringComparison.Ordinal);
        server.Platform.Queue = new DispatcherStatus { Instances = [pulling with { Pull = new PullProgress(8, 3, 5 << 20, 40L << 20) }] };
        Assert.Contains("3 of 8 layers are there, 5 of 40 MiB", (await ReadAsync()).Reason!, StringComparison.Ordinal);
        server.Platform.Queue = new DispatcherStatus { LastFailure = new LaunchFailure(RunOutcome.ImageError, "no such image") };
        Assert.Equal(("Failed", "ImageError", "no such image", "Successful"), await ReadAsync());
        server.Platform.Queue = new DispatcherStatus { LastFailure = new LaunchFailure(RunOutcome.NodeLost, "away") };
        Assert.Equal(("Active", null, null, "Successful"), await ReadAsync());
        server.Platform.Queue = new DispatcherStatus { Instances = [pulling with { State = InstanceState.Ready, PullingImage = false }], LastFailure = new LaunchFailure(RunOutcome.ImageError, "elsewhere") };
        Assert.Equal(("Active", null, null, "Successful"), await ReadAsync());

        // Of a changed definition it is the state of the update: the one before was in force.
        await Task.Delay(5, TestContext.Current.CancellationToken);
        await server.CallAsync("PUT", $"{Functions}/f", """{"description":"changed"}""");
        revision = server.Platform.Functions[$"{GatewayServer.Account}/f"].SpecRevision;
        server.Platform.Queue = new DispatcherStatus { Instances = [pulling with { Revision = revision }] };
        Assert.Equal(("Active", null, null, "InProgress"), await ReadAsync());
        server.Platform.Queue = new DispatcherStatus { LastFailure = new LaunchFailure(RunOutcome.ImageError, "no such image") };
        var json = (await server.CallAsync("GET", $"{Functions}/f")).Json;
        Assert.Equal("Failed", json.GetProperty("lastUpdateStatus").GetString());
        Assert.Equal("no such image", json.GetProperty("lastUpdateStatusReason").GetString());

        async Task<(string? State, string? Code, string? Reason, string? Update)> ReadAsync()
        {
            var json = (await server.CallAsync("GET", $"{Functions}/f")).Json;
            return (json.GetProperty("state").GetString(), Text("stateReasonCode"), Text("stateReason"), json.GetProperty("lastUpdateStatus").GetString());

            string? Text(string name) => json.TryGetProperty(name, out var value) ? value.GetString() : null;
        }
    }

    [Fact]
    public async Task A_registry_password_never_comes_back_and_is_kept_when_left_out()
    {
        const string Registry = ""","registryConfig":{"authConfig":{"userName":"u","password":"hunter2"},"certConfig":{"insecure":false}}""";
        var create = await server.CallAsync("POST", Functions, """
            {"functionName":"f","runtime":"custom-container","customContainerConfig":{"image":"a:1"
            """ + Registry + ""","acrInstanceId":"cri-1"}}""");
        Assert.Equal(HttpStatusCode.OK, create.Status);
        Assert.DoesNotContain("hunter2", create.Text, StringComparison.Ordinal);
        var container = create.Json.GetProperty("customContainerConfig");
        Assert.Equal("u", container.GetProperty("registryConfig").GetProperty("authConfig").GetProperty("userName").GetString());
        Assert.False(container.GetProperty("registryConfig").GetProperty("certConfig").GetProperty("insecure").GetBoolean());
        Assert.Equal("cri-1", container.GetProperty("acrInstanceId").GetString());

        // What was read is sent back with another image, as tools do.
        var update = await server.CallAsync("PUT", $"{Functions}/f", $$"""{"customContainerConfig":{{container.GetRawText().Replace("a:1", "a:2", StringComparison.Ordinal)}}}""");
        Assert.Equal(HttpStatusCode.OK, update.Status);
        var spec = server.Platform.Functions[$"{GatewayServer.Account}/f"].Spec;
        Assert.Equal("a:2", spec.Container.Image);
        Assert.Equal("hunter2", spec.Container.RegistryPassword);

        await server.CallAsync("PUT", $"{Functions}/f", """{"customContainerConfig":{"image":"a:3"}}""");
        spec = server.Platform.Functions[$"{GatewayServer.Account}/f"].Spec;
        Assert.Null(spec.Container.RegistryPassword);
        Assert.DoesNotContain(spec.StoredFields.Keys, key => key.StartsWith("customContainerConfig", StringComparison.Ordinal));
    }

    [Fact]
    public async Task An_update_changes_the_named_fields_only()
    {
        await server.CallAsync("POST", Functions, SdkBody);
        var answer = await server.CallAsync("PUT", $"{Functions}/f-main", """{"functionName":"other","timeout":60,"description":null}""");
        Assert.Equal(HttpStatusCode.OK, answer.Status);
        Assert.Equal(60, answer.Json.GetProperty("timeout").GetInt32());
        Assert.Equal("f-main", answer.Json.GetProperty("functionName").GetString());
        Assert.Equal("acceptance", answer.Json.GetProperty("description").GetString());
        Assert.Equal(32_768, answer.Json.GetProperty("memorySize").GetInt32());

        var withoutGpu = await server.CallAsync("PUT", $"{Functions}/f-main", """{"gpuConfig":{}}""");
        Assert.Equal(HttpStatusCode.OK, withoutGpu.Status);
        Assert.False(withoutGpu.Json.TryGetProperty("gpuConfig", out _));
        (await server.CallAsync("PUT", $"{Functions}/f-main", """{"memorySize":128}""")).Is(400, "InvalidArgument");
    }

    [Fact]
    public async Task An_update_that_raced_another_is_decided_anew()
    {
        await server.CreateAsync("f", taskMode: false);
        var key = $"{GatewayServer.Account}/f";
        var raced = false;
        server.Platform.BeforeChange = () =>
        {
            if (!raced)
            {
                raced = true;
                var now = server.Platform.Functions[key];
                server.Platform.Functions[key] = now with { Revision = now.Revision + 1, Spec = now.Spec with { Description = "theirs" } };
            }
        };
        var answer = await server.CallAsync("PUT", $"{Functions}/f", """{"timeout":60}""");
        Assert.Equal("theirs", answer.Json.GetProperty("description").GetString());
        Assert.Equal(60, answer.Json.GetProperty("timeout").GetInt32());

        server.Platform.BeforeChange = () => server.Platform.Functions[key] = server.Platform.Functions[key] with { Revision = server.Platform.Functions[key].Revision + 1 };
        (await server.CallAsync("PUT", $"{Functions}/f", """{"timeout":61}""")).Is(409, "ConcurrentUpdateError");
    }

    [Fact]
    public async Task A_name_serves_once_until_it_is_deleted()
    {
        await server.CreateAsync("f");
        (await server.CallAsync("POST", Functions, GatewayServer.Function("f"))).Is(409, "FunctionAlreadyExists");
        Assert.Equal(HttpStatusCode.NoContent, (await server.CallAsync("DELETE", $"{Functions}/f", """{"functionName":"f"}""")).Status);
        (await server.CallAsync("DELETE", $"{Functions}/f")).Is(404, "FunctionNotFound");
        (await server.CallAsync("GET", $"{Functions}/f")).Is(404, "FunctionNotFound");
        (await server.CallAsync("PUT", $"{Functions}/f", "{}")).Is(404, "FunctionNotFound");
    }

    [Fact]
    public async Task Lists_filter_and_page()
    {
        for (var i = 0; i < 5; i++)
        {
            await server.CallAsync("POST", Functions, GatewayServer.Function($"a-{i}", i % 2 == 0
                ? ""","gpuConfig":{"gpuType":"fc.gpu.tesla.1","gpuMemorySize":8192},"description":"Even one","tags":[{"Key":"k","Value":"v"}]"""
                : ""));
        }

        await server.CreateAsync("b", taskMode: false);
        Assert.Equal(6, await CountAsync(""));
        Assert.Equal(6, await CountAsync("?nextToken=&limit=100&fcVersion=v3&runtime=custom-container"));
        Assert.Equal(5, await CountAsync("?prefix=a-"));
        Assert.Equal(3, await CountAsync("?gpuType=fc.gpu.tesla.1"));
        Assert.Equal(3, await CountAsync("?description=even"));
        Assert.Equal(3, await CountAsync($"?tags={Uri.EscapeDataString("""[{"Key":"k","Value":"v"}]""")}"));
        Assert.Equal(3, await CountAsync($"?tags={Uri.EscapeDataString("""[{"Key":"k"}]""")}"));
        Assert.Equal(1, await CountAsync("?functionName=a-1"));
        Assert.Equal(0, await CountAsync("?fcVersion=v2"));
        Assert.Equal(0, await CountAsync("?resourceGroupId=x"));

        var seen = new List<string>();
        var token = "";
        do
        {
            var page = (await server.CallAsync("GET", $"{Functions}?prefix=a-&limit=2&nextToken={token}")).Json;
            seen.AddRange(page.GetProperty("functions").EnumerateArray().Select(function => function.GetProperty("functionName").GetString()!));
            token = page.TryGetProperty("nextToken", out var next) ? next.GetString()! : "";
        }
        while (token.Length > 0);
        Assert.Equal(["a-0", "a-1", "a-2", "a-3", "a-4"], seen);

        async Task<int> CountAsync(string query)
        {
            var answer = await server.CallAsync("GET", Functions + query);
            Assert.Equal(HttpStatusCode.OK, answer.Status);
            return answer.Json.GetProperty("functions").GetArrayLength();
        }
    }

    [Fact]
    public async Task An_async_config_is_put_merged_listed_and_deleted()
    {
        await server.CreateAsync("f", taskMode: false);
        const string Config = $"{Functions}/f/async-invoke-config";
        (await server.CallAsync("GET", Config)).Is(404, "AsyncConfigNotExists");
        (await server.CallAsync("DELETE", Config)).Is(404, "AsyncConfigNotExists");
        var first = await server.CallAsync("PUT", $"{Config}?qualifier=LATEST", """{"asyncTask":true,"destinationConfig":{}}""");
        Assert.Equal(HttpStatusCode.OK, first.Status);
        Assert.Equal(3, first.Json.GetProperty("maxAsyncRetryAttempts").GetInt32());
        Assert.Equal(86_400, first.Json.GetProperty("maxAsyncEventAgeInSeconds").GetInt32());
        var second = await server.CallAsync("PUT", Config, """{"maxAsyncRetryAttempts":0}""");
        Assert.True(second.Json.GetProperty("asyncTask").GetBoolean());
        Assert.Equal(0, second.Json.GetProperty("maxAsyncRetryAttempts").GetInt32());
        Assert.Equal(second.Text, (await server.CallAsync("GET", Config)).Text);
        foreach (var elsewhere in new[] { "acs:mns:r:1:/queues/q/messages", "acs:fc:r:999:functions/g", "ftp://example.com" })
        {
            var refused = await server.CallAsync("PUT", Config, $$$$"""{"destinationConfig":{"onSuccess":{"destination":"{{{{elsewhere}}}}"}}}""");
            refused.Is(400, "InvalidArgument");
            Assert.Contains("destinationConfig.onSuccess.destination", refused.Message!, StringComparison.Ordinal);
        }

        var told = await server.CallAsync("PUT", Config, """{"destinationConfig":{"onFailure":{"destination":"acs:fc:::functions/g"}}}""");
        Assert.Equal("acs:fc:::functions/g", told.Json.GetProperty("destinationConfig").GetProperty("onFailure").GetProperty("destination").GetString());

        Assert.Equal(1, (await server.CallAsync("GET", "/2023-03-30/async-invoke-configs")).Json.GetProperty("configs").GetArrayLength());
        Assert.Equal(1, (await server.CallAsync("GET", "/2023-03-30/async-invoke-configs?functionName=f&limit=1")).Json.GetProperty("configs").GetArrayLength());
        Assert.Equal(0, (await server.CallAsync("GET", "/2023-03-30/async-invoke-configs?functionName=g")).Json.GetProperty("configs").GetArrayLength());
        Assert.Equal(HttpStatusCode.NoContent, (await server.CallAsync("DELETE", Config)).Status);
        (await server.CallAsync("GET", Config)).Is(404, "AsyncConfigNotExists");
    }

    [Theory]
    [InlineData("3", "VersionNotFound")]
    [InlineData("prod", "AliasNotFound")]
    public async Task A_qualifier_that_nobody_made_does_not_exist(string qualifier, string code)
    {
        await server.CreateAsync("f");
        (await server.CallAsync("GET", $"{Functions}/f?qualifier={qualifier}")).Is(404, code);
        (await server.CallAsync("PUT", $"{Functions}/f/async-invoke-config?qualifier={qualifier}", "{}")).Is(404, code);
        (await server.CallAsync("POST", $"{Functions}/f/invocations?qualifier={qualifier}", "x")).Is(404, code);
        (await server.CallAsync("GET", $"{Functions}/none?qualifier={qualifier}")).Is(404, "FunctionNotFound");
    }
}
