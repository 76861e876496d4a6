using System.Reflection;
using System.Text.Json.Nodes;
using GpuTasks.Functions;
using GpuTasks.Storage;
using GpuTasks.Tasks;

namespace GpuTasks.Tests.Storage;

public sealed class SerializerTests
{
    private readonly SystemTextJsonStorageSerializer serializer = new();

    [Fact]
    public void A_full_task_survives() => Survives(Samples.StoredTask());

    [Fact]
    public void A_full_function_survives() => Survives(Samples.FullFunction());

    [Fact]
    public void An_empty_state_survives()
    {
        Survives(new TaskState());
        Survives(new FunctionState());
    }

    [Fact]
    public void The_samples_leave_no_member_at_its_default()
    {
        AllSet(Samples.StoredTask(), new TaskState());
        AllSet(Samples.FullTask().Submission!, new TaskSubmission { RequestId = "" });
        AllSet(Samples.FullTask().Outbox!, new OutboxEntry("", "", 0));
        var function = Samples.FullFunction();
        AllSet(function, new FunctionState());
        AllSet(function.Function!, new FunctionSnapshot { Account = "", FunctionId = "", Revision = 0, SpecRevision = 0, Spec = new FunctionSpec { Name = "", Container = new ContainerSpec { Image = "" } } });
        AllSet(function.Function!.Aliases["prod"], new FunctionAlias { VersionId = "" });
        AllSet(function.Function.Restriction!, new InvocationRestriction());
        AllSet(function.Function.AsyncConfigs["prod"], new AsyncInvokeConfig());
    }

    [Fact]
    public void A_stored_task_of_an_earlier_version_stays_readable() => StaysReadable<TaskState>("task-0.1.json");

    [Fact]
    public void A_stored_function_of_an_earlier_version_stays_readable() => StaysReadable<FunctionState>("function-0.1.json");

    [Fact]
    public void A_stored_function_with_versions_stays_readable() => StaysReadable<FunctionState>("function-0.2.json");

    [Fact]
    public void Properties_of_a_later_version_are_skipped()
    {
        var json = Json(Samples.FullTask());
        json["Later"] = new JsonObject { ["A"] = 1 };
        json["Submission"]!["Later"] = "x";
        json["Index"]!["Later"] = true;
        Assert.Equal(Text(Samples.FullTask()), Text(Read<TaskState>(json.ToJsonString())));
    }

    [Fact]
    public void Properties_that_an_earlier_version_did_not_write_get_their_default()
    {
        var json = Json(Samples.FullTask());
        json.Remove("Events");
        json.Remove("Outcome");
        json["Submission"]!.AsObject().Remove("MaxRetryAttempts");
        var state = Read<TaskState>(json.ToJsonString());
        Assert.Empty(state.Events);
        Assert.Null(state.Outcome);
        Assert.Equal(3, state.Submission!.MaxRetryAttempts);
    }

    [Fact]
    public void Without_its_index_a_row_is_the_same_otherwise_and_read_the_same()
    {
        var bytes = serializer.SerializeWithoutIndex(Samples.FullTask());
        var json = Json(Samples.FullTask());
        json.Remove("Index");
        Assert.True(JsonNode.DeepEquals(json, JsonNode.Parse(bytes)));
        Assert.Equal(Text(Samples.FullTask()), Text(serializer.Deserialize<TaskState>(new BinaryData(bytes))));
    }

    [Fact]
    public void Enums_are_stored_by_name_and_bytes_as_base64()
    {
        var json = Json(Samples.FullTask());
        Assert.Equal("Retrying", (string?)json["Status"]);
        Assert.Equal("FreeSlot, Notify", (string?)json["Pending"]);
        Assert.Equal("AP/+Pj8=", (string?)json["Submission"]!["Payload"]);
        Assert.Equal("Retrying", (string?)json["Index"]!["Status"]);
    }

    [Fact]
    public void Derived_properties_are_not_stored_but_the_index_is()
    {
        var json = Json(Samples.FullTask());
        Assert.Equal(["Account", "Function", "TaskId"], json["Key"]!.AsObject().Select(p => p.Key));
        Assert.NotNull(json["Index"]);
    }

    /// <summary>Nulls are not written, so a property that reads back as something else would change its value.</summary>
    [Theory]
    [InlineData(typeof(TaskState))]
    [InlineData(typeof(AsyncInvokeConfig))]
    public void A_property_that_may_be_null_is_null_by_default(Type type)
    {
        var fresh = Activator.CreateInstance(type);
        var nullability = new NullabilityInfoContext();
        Assert.All(
            type.GetProperties().Where(p => p.SetMethod is not null && nullability.Create(p).WriteState == NullabilityState.Nullable),
            p => Assert.Null(p.GetValue(fresh)));
    }

    private static void AllSet<T>(T sample, T fresh) => Assert.All(
        typeof(T).GetProperties().Where(p => p.SetMethod is not null),
        p => Assert.NotEqual(p.GetValue(fresh), p.GetValue(sample)));

    private void Survives<T>(T state) => Assert.Equal(Text(state), Text(Read<T>(Text(state))));

    private void StaysReadable<T>(string file)
    {
        using var stream = typeof(SerializerTests).Assembly.GetManifestResourceStream($"Samples/{file}")!;
        var stored = BinaryData.FromStream(stream);
        Contains(JsonNode.Parse(stored.ToString()), Json(serializer.Deserialize<T>(stored)), file);
    }

    private static void Contains(JsonNode? stored, JsonNode? read, string path)
    {
        if (stored is JsonObject members)
        {
            Assert.All(members, m => Contains(m.Value, read?[m.Key], $"{path}/{m.Key}"));
        }
        else if (stored is JsonArray items && read is JsonArray others && items.Count == others.Count)
        {
            Assert.All(items.Zip(others), (pair, i) => Contains(pair.First, pair.Second, $"{path}/{i}"));
        }
        else
        {
            Assert.True(JsonNode.DeepEquals(stored, read), $"{path} was {stored}, but is read as {read}");
        }
    }

    private JsonObject Json<T>(T state) => JsonNode.Parse(Text(state))!.AsObject();

    private string Text<T>(T state) => serializer.Serialize(state).ToString();

    private T Read<T>(string text) => serializer.Deserialize<T>(BinaryData.FromString(text));
}
