using System.Globalization;
using System.Net;
using System.Text.Json;
using System.Text.Json.Nodes;
using CsCheck;

namespace GpuTasks.Gateway.Tests;

/// <summary>Random structures: valid ones come back as they were sent, broken ones are refused with the field named.</summary>
public sealed class PropertyTests : IAsyncLifetime
{
    private const int Times = 60;
    private const string Functions = "/2023-03-30/functions";
    private static readonly Gen<string> Name = Gen.Char["abcXYZ_"].SelectMany(first => Gen.Char["abcXYZ019_-"].Array[0, 20].Select(rest => first + new string(rest)));
    private static readonly Gen<string> Free = Gen.Char["aZ 0é漢<>&'\"\\/\t"].Array[0, 40].Select(chars => new string(chars));

    private static readonly Gen<JsonObject> Container = Gen.Select(Gen.Int[1, 65_535], Free.Array[0, 3], Gen.Bool, Gen.Int[1, 120], (port, command, check, seconds) =>
    {
        var json = new JsonObject { ["image"] = "registry.example/a/b:1", ["port"] = port, ["command"] = new JsonArray([.. command.Select(text => (JsonNode)text)]) };
        if (check)
        {
            json["healthCheckConfig"] = new JsonObject { ["httpGetUrl"] = "/ready", ["periodSeconds"] = seconds, ["failureThreshold"] = seconds, ["timeoutSeconds"] = 2 };
        }

        return json;
    });

    private static readonly Gen<JsonObject> Gpu = Gen.Select(Gen.Int[1, 16], Gen.Int[1, 320], Gen.Int[2, 512], (gib, cpu, memory) => new JsonObject
    {
        ["gpuConfig"] = new JsonObject { ["gpuType"] = "fc.gpu.tesla.1", ["gpuMemorySize"] = gib * 1_024 },
        ["cpu"] = cpu / 20.0,
        ["memorySize"] = memory * 64,
    });

    private static readonly Gen<JsonObject> Plain = Gen.Select(Gen.Int[1, 16], Gen.Int[1, 4], (cpu, ratio) => new JsonObject { ["cpu"] = cpu / 2.0, ["memorySize"] = cpu * ratio * 512 });

    private static readonly Gen<JsonObject> Function = Gen.Select(
        Gen.OneOf(Gpu, Plain), Container, Free, Gen.Int[1, 86_400], Gen.Int[1, 200], Gen.Bool.Select(small => small ? 512 : 10_240), Gen.Dictionary(Name.Select(name => "V" + name.Replace('-', '_')), Free)[0, 5],
        (json, container, description, timeout, concurrency, disk, variables) =>
        {
            json["runtime"] = "custom-container";
            json["handler"] = "index.handler";
            json["customContainerConfig"] = container;
            json["description"] = description;
            json["timeout"] = timeout;
            json["instanceConcurrency"] = concurrency;
            json["diskSize"] = disk;
            json["environmentVariables"] = new JsonObject(variables.Select(pair => KeyValuePair.Create(pair.Key, (JsonNode?)pair.Value)));
            return json;
        });

    private static readonly Gen<JsonObject> AsyncConfig = Gen.Select(Gen.Bool, Gen.Int[0, 8], Gen.Int[1, 604_800], Gen.Bool, (mode, retries, age, destination) => new JsonObject
    {
        ["asyncTask"] = mode,
        ["maxAsyncRetryAttempts"] = retries,
        ["maxAsyncEventAgeInSeconds"] = age,
        ["destinationConfig"] = destination ? new JsonObject { ["onFailure"] = new JsonObject { ["destination"] = "acs:fc:local-1::functions/sink" } } : [],
    });

    private static readonly Gen<JsonObject> Timer = Gen.Select(
        Gen.OneOf(Gen.Int[1, 5_000].Select(n => $"@every {n}m"), Gen.Select(Gen.Int[0, 59], Gen.Int[0, 23], (m, h) => $"0 {m} {h} * * *"), Gen.Int[0, 23].Select(h => $"CRON_TZ=Asia/Shanghai 0 0 {h} ? * MON-FRI")),
        Gen.Bool, Free, (expression, enabled, payload) => new JsonObject { ["cronExpression"] = expression, ["enable"] = enabled, ["payload"] = payload });

    private static readonly (string Field, JsonNode? Value)[] BrokenFunctionFields =
    [
        ("runtime", "python3.10"), ("runtime", 7), ("cpu", 0.03), ("cpu", 17), ("cpu", "1"), ("memorySize", 100), ("memorySize", 65), ("memorySize", 1e12), ("diskSize", 1_000), ("timeout", 0), ("timeout", 86_401),
        ("timeout", 1.5), ("instanceConcurrency", 201), ("idleTimeout", -1), ("internetAccess", "yes"), ("description", new string('x', 257)), ("environmentVariables", new JsonObject { ["FC_X"] = "1" }),
        ("environmentVariables", new JsonObject { ["1"] = "1" }), ("environmentVariables", new JsonObject { ["A"] = 1 }), ("environmentVariables", new JsonObject { ["A"] = new string('x', 5_000) }),
        ("gpuConfig", new JsonObject { ["gpuType"] = "x" }), ("gpuConfig", new JsonObject { ["gpuType"] = "fc.gpu.tesla.1", ["gpuMemorySize"] = 1_000 }), ("gpuConfig", new JsonArray()),
        ("customContainerConfig", new JsonObject()), ("customContainerConfig", new JsonObject { ["image"] = "i", ["port"] = 0 }), ("customContainerConfig", new JsonObject { ["image"] = "a b" }),
        ("customContainerConfig", new JsonObject { ["image"] = "i", ["healthCheckConfig"] = new JsonObject { ["periodSeconds"] = 121 } }), ("layers", "x"), ("logConfig", new JsonArray()),
    ];

    private GatewayServer server = null!;
    private int made;

    public async ValueTask InitializeAsync() => server = await GatewayServer.StartAsync();

    public ValueTask DisposeAsync() => server.DisposeAsync();

    [Fact]
    public Task A_valid_function_comes_back_as_it_was_sent_and_as_it_was_changed() => Gen.Select(Function, Function).SampleAsync(async (first, second) =>
    {
        var name = NewName();
        first["functionName"] = name;
        var created = await server.CallAsync("POST", Functions, first.ToJsonString());
        Assert.True(created.Status == HttpStatusCode.OK, $"{created.Text} for {first.ToJsonString()}");
        ComesBack(first, (await server.CallAsync("GET", $"{Functions}/{name}")).Json);
        if (!second.ContainsKey("gpuConfig"))
        {
            second["gpuConfig"] = new JsonObject();
        }

        var updated = await server.CallAsync("PUT", $"{Functions}/{name}", second.ToJsonString());
        Assert.True(updated.Status == HttpStatusCode.OK, $"{updated.Text} for {second.ToJsonString()}");
        ComesBack(second, (await server.CallAsync("GET", $"{Functions}/{name}")).Json);
    }, iter: Times, threads: 1);

    [Fact]
    public Task A_function_with_a_broken_field_is_refused_with_that_field_named() => Gen.Select(Function, Gen.Int[0, BrokenFunctionFields.Length - 1]).SampleAsync(async (json, which) =>
    {
        var (field, value) = BrokenFunctionFields[which];
        json["functionName"] = NewName();
        json[field] = value?.DeepClone();
        var answer = await server.CallAsync("POST", Functions, json.ToJsonString());
        answer.Is(400, "InvalidArgument");
        Assert.Contains(field, answer.Message!, StringComparison.Ordinal);
    }, iter: Times * 2, threads: 1);

    [Fact]
    public async Task Valid_rules_for_asynchronous_calls_come_back_as_they_were_put()
    {
        await server.CreateAsync("f", taskMode: false);
        await AsyncConfig.SampleAsync(async json =>
        {
            Assert.Equal(HttpStatusCode.OK, (await server.CallAsync("PUT", $"{Functions}/f/async-invoke-config", json.ToJsonString())).Status);
            ComesBack(json, (await server.CallAsync("GET", $"{Functions}/f/async-invoke-config")).Json);
        }, iter: Times, threads: 1);
    }

    [Fact]
    public async Task A_valid_timer_comes_back_as_it_was_put()
    {
        await server.CreateAsync("f");
        await Gen.Select(Timer, Free).SampleAsync(async (config, description) =>
        {
            var name = NewName();
            var json = new JsonObject { ["triggerName"] = name, ["triggerType"] = "timer", ["triggerConfig"] = config.ToJsonString(), ["description"] = description };
            var created = await server.CallAsync("POST", $"{Functions}/f/triggers", json.ToJsonString());
            Assert.True(created.Status == HttpStatusCode.OK, $"{created.Text} for {json.ToJsonString()}");
            ComesBack(json, (await server.CallAsync("GET", $"{Functions}/f/triggers/{name}")).Json);
            Assert.Equal(HttpStatusCode.NoContent, (await server.CallAsync("DELETE", $"{Functions}/f/triggers/{name}")).Status);
        }, iter: Times, threads: 1);
    }

    private static void ComesBack(JsonObject sent, JsonElement back)
    {
        foreach (var (name, value) in sent)
        {
            if (value is JsonObject { Count: 0 } && !back.TryGetProperty(name, out _))
            {
                continue;
            }

            Assert.True(back.TryGetProperty(name, out var found), $"{name} did not come back");
            if (value is JsonObject inner && found.ValueKind == JsonValueKind.Object)
            {
                ComesBack(inner, found);
            }
            else
            {
                Assert.True(JsonNode.DeepEquals(value, JsonNode.Parse(found.GetRawText())), $"{name}: {value} came back as {found}");
            }
        }
    }

    private string NewName() => string.Create(CultureInfo.InvariantCulture, $"p{Interlocked.Increment(ref made)}");
}
