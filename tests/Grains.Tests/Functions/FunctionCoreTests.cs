using GpuTasks.Functions;

namespace GpuTasks.Tests.Functions;

/// <summary>What changes make of a function, without a cluster.</summary>
public sealed class FunctionCoreTests
{
    private static readonly DateTimeOffset Noon = new(2026, 3, 1, 12, 0, 0, TimeSpan.Zero);

    private FunctionState state = FunctionCore.Create(new FunctionState(), "1001", Spec("a:1"), Noon).Next;

    private int Revision => state.Function!.Revision;

    [Fact]
    public void A_published_version_stays_as_it_was_while_the_latest_moves()
    {
        var version = Publish();
        var revision = state.Function!.SpecRevision;
        state = FunctionCore.Update(state, Spec("a:2"), Revision, Noon).Next;
        var published = Qualifiers.Resolve(state, version, "")!;
        Assert.Equal(("a:1", revision, version), (published.Spec.Container.Image, published.SpecRevision, published.Version));
        var latest = Qualifiers.Resolve(state, "LATEST", "")!;
        Assert.Equal(("a:2", null), (latest.Spec.Container.Image, latest.Version));
        Assert.NotEqual(revision, latest.SpecRevision);
        Assert.Equal("f.1", published.Definition.Line);
        Assert.Equal(published.Definition, DefinitionKey.Parse(published.Definition.ToString()));
    }

    [Fact]
    public void Numbers_of_versions_are_never_used_again()
    {
        Assert.Equal("1", Publish());
        Assert.Equal("2", Publish());
        Assert.Equal(FunctionChange.Done, Apply(FunctionCore.DeleteVersion(state, "2", Revision)));
        Assert.Null(Qualifiers.Resolve(state, "2", ""));
        Assert.Equal("3", Publish());
        Assert.Equal(FunctionChange.NotFound, Apply(FunctionCore.DeleteVersion(state, "2", Revision)));
        Assert.Equal(FunctionChange.Conflict, Apply(FunctionCore.DeleteVersion(state, "3", Revision - 1)));
    }

    [Fact]
    public void A_function_that_is_made_again_repeats_no_revision_of_its_predecessor()
    {
        for (var i = 0; i < 100; i++)
        {
            state = FunctionCore.Update(state, Spec($"a:{i}"), Revision, Noon).Next;
        }

        Assert.True(FunctionCore.Create(new FunctionState(), "1001", Spec("a:1"), Noon.AddHours(1)).Next.Function!.SpecRevision > Revision);
    }

    [Fact]
    public void An_alias_divides_calls_by_weight_and_gives_a_repeat_the_same_version()
    {
        var (one, two, three) = (Publish(), Publish(), Publish());
        var alias = new FunctionAlias { VersionId = one, AdditionalWeights = new Dictionary<string, double> { [two] = 0.25, [three] = 0.05 } };
        Assert.Equal(FunctionChange.Done, Apply(FunctionCore.SetAlias(state, "prod", alias, Revision, Noon)));
        var picked = Enumerable.Range(0, 10_000).Select(i => Qualifiers.Resolve(state, "prod", $"call-{i}")!.Version!).ToList();
        Assert.InRange(picked.Count(version => version == two), 2_200, 2_800);
        Assert.InRange(picked.Count(version => version == three), 350, 650);
        Assert.Equal(picked, Enumerable.Range(0, 10_000).Select(i => Qualifiers.Resolve(state, "prod", $"call-{i}")!.Version!));
        var whole = alias with { AdditionalWeights = new Dictionary<string, double> { [two] = 1 } };
        Assert.All(Enumerable.Range(0, 1_000), i => Assert.Equal(two, whole.Pick($"call-{i}")));
    }

    [Fact]
    public void The_async_config_of_an_alias_or_version_goes_with_it()
    {
        var version = Publish();
        Apply(FunctionCore.SetAlias(state, "prod", new FunctionAlias { VersionId = version }, Revision, Noon));
        Apply(FunctionCore.SetAsyncConfig(state, "prod", new AsyncInvokeConfig { TaskMode = true }, Revision, Noon));
        Apply(FunctionCore.SetAsyncConfig(state, version, new AsyncInvokeConfig { TaskMode = true }, Revision, Noon));
        Apply(FunctionCore.SetAlias(state, "prod", null, Revision, Noon));
        Assert.Equal([version], state.Function!.AsyncConfigs.Keys);
        Apply(FunctionCore.DeleteVersion(state, version, Revision));
        Assert.Empty(state.Function.AsyncConfigs);
        Assert.Empty(state.Published);
    }

    [Fact]
    public void An_alias_keeps_instances_of_the_version_that_it_names_first()
    {
        var (one, two) = (Publish(), Publish());
        var alias = new FunctionAlias { VersionId = one, AdditionalWeights = new Dictionary<string, double> { [two] = 0.5 } };
        Apply(FunctionCore.SetAlias(state, "prod", alias, Revision, Noon));
        var provision = new ProvisionConfig { Plan = new InstancePlan(1, [], []) };
        Apply(FunctionCore.SetCapacity(state, new FunctionCapacity { Provision = new Dictionary<string, ProvisionConfig> { ["prod"] = provision, [one] = provision } }, Revision));
        Assert.Equal([one], state.Function!.VersionsKept);
        Assert.True(Qualifiers.Resolve(state, one, "")!.IsKeptBy("prod"));
        Assert.False(Qualifiers.Resolve(state, two, "")!.IsKeptBy("prod"));
        Assert.False(state.Function.IsKeptBy("prod"));
        Apply(FunctionCore.SetAlias(state, "prod", alias with { VersionId = two }, Revision, Noon));
        Assert.Equal([one, two], state.Function.VersionsKept.Order());
        Apply(FunctionCore.SetAlias(state, "prod", null, Revision, Noon));
        Apply(FunctionCore.DeleteVersion(state, one, Revision));
        Assert.Empty(state.Function.Capacity.Provision);
    }

    [Fact]
    public void A_definition_keeps_the_digest_that_its_image_had_first_and_a_changed_one_finds_its_own()
    {
        var first = state.Function!.SpecRevision;
        Assert.Equal(FunctionChange.Done, Apply(FunctionCore.SetResolvedImage(state, null, first, "a@sha256:1")));
        Assert.Equal(FunctionChange.NotFound, Apply(FunctionCore.SetResolvedImage(state, null, first, "a@sha256:2")));
        var version = Publish();
        state = FunctionCore.Update(state, Spec("a:2"), Revision, Noon).Next;
        Assert.Null(state.Function!.ResolvedImage);
        Assert.Equal("a@sha256:1", Qualifiers.Resolve(state, version, "")!.ResolvedImage);

        // A late word of an instance of the definition before.
        Assert.Equal(FunctionChange.NotFound, Apply(FunctionCore.SetResolvedImage(state, null, first, "a@sha256:1")));
        var later = Publish();
        Assert.Equal(FunctionChange.Done, Apply(FunctionCore.SetResolvedImage(state, later, state.Function!.SpecRevision, "a@sha256:3")));
        Assert.Equal(("a@sha256:3", "a:2"), (Qualifiers.Resolve(state, later, "")!.ResolvedImage, Qualifiers.Resolve(state, later, "")!.Spec.Container.Image));
        Assert.Null(state.Function.ResolvedImage);
    }

    [Fact]
    public void There_is_an_end_to_versions()
    {
        for (var i = 0; i < FunctionCore.MaxVersions; i++)
        {
            Publish();
        }

        Assert.Equal(FunctionChange.TooMany, FunctionCore.Publish(state, "", Noon).Answer.Change);
        Apply(FunctionCore.DeleteVersion(state, "1", Revision));
        Assert.Equal("101", Publish());
    }

    private static FunctionSpec Spec(string image) => new() { Name = "f", Container = new ContainerSpec { Image = image } };

    private string Publish()
    {
        var (next, answer) = FunctionCore.Publish(state, "", Noon);
        state = next;
        return answer.Version!.VersionId;
    }

    private FunctionChange Apply((FunctionState Next, FunctionChange Outcome) decided)
    {
        state = decided.Next;
        return decided.Outcome;
    }
}
